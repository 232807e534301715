"""What the generated shop sells to wear and to care: invented data, read by ``families``."""

WEAR = """
[fashion | Clothing, Shoes & Jewelry › Women › Shoes | 36 | shoes]
is: water resistant, slip resistant, machine washable, cruelty free, hand stitched, wide fitting
with: rubber sole, memory foam, arch support, ankle strap, closed toe, block heel, faux fur lining
with: leather lining, side zipper, padded insole, round toe, steel shank, cork footbed, suede upper
for: daily wear, wedding guests, office work, long walks, wide feet, nursing shifts, summer travel
women's boots = ankle boots, chelsea boots, riding boots
women's flats = ballet flats, pointed flats
women's sandals = strappy sandals, wedge sandals, slide sandals
women's pumps = block heel pumps, kitten heel pumps
women's slippers = house slippers, scuff slippers
women's fashion sneakers = platform sneakers, canvas sneakers
women's loafers & slip-ons = penny loafers, slip on moccasins
women's mules & clogs = garden clogs, backless mules
women's oxfords = lace up oxfords, brogue oxfords

[fashion | Clothing, Shoes & Jewelry › Men › Shoes | 48 | shoes]
is: non slip, water resistant, slip resistant, abrasion resistant, oil resistant, extra wide
with: rubber sole, rubber outsole, steel toe, lace closure, moisture wicking lining, heel pull
with: vinyl upper, genuine leather, padded collar, ortholite insole, breathable mesh, felt lining
for: everyday wear, construction sites, trail running, wide feet, formal events, indoor courts
men's boots = work boots, desert boots, hiking boots
men's sandals = fisherman sandals, slide sandals
men's slippers = moccasin slippers, clog slippers
men's fashion sneakers = retro sneakers, canvas sneakers
men's loafers & slip-ons = driving loafers, boat shoes
men's oxfords = cap toe oxfords, wingtip oxfords
men's athletic shoes = running shoes, tennis shoes
men's outdoor shoes = trail shoes, water shoes

[fashion | Clothing, Shoes & Jewelry › Women › Clothing | 24 | clothes]
is: machine washable, hand washable, wrinkle resistant, loose fitting, quick drying, fully lined
with: long sleeves, short sleeves, button closure, drawstring waist, side pockets, ruffle hem
with: lace trim, cold shoulders, batwing sleeves, boat neckline, contrast stitching, tie front
for: casual fridays, cocktail parties, teen girls, beach holidays, business meetings, maternity wear
women's tops, tees & blouses = tunic top, wrap blouse, peplum top
women's fashion hoodies & sweatshirts = cropped hoodie, fleece sweatshirt
women's sweaters = cable knit sweater, turtleneck sweater, mohair pullover
women's dresses = maxi dress, shirt dress, pencil dress
women's coats, jackets & vests = puffer jacket, trench coat, denim vest
women's jumpsuits & rompers = wide leg jumpsuit, denim romper
women's bodysuits = ribbed bodysuit, mesh bodysuit
women's cardigans = open front cardigan, chunky cardigan
women's tanks & camis = racerback tank, satin camisole
women's suiting & blazers = tailored blazer, double breasted blazer

[fashion | Clothing, Shoes & Jewelry › Women › Clothing › Bottoms | 27 | clothes]
is: machine washable, squat proof, wrinkle free, fade resistant, buttery soft, ankle length
with: elastic waistband, tummy control, high waist, straight leg, zipper fly, cargo pockets
with: frayed hem, pleated front, belt loops, side slits, bootcut leg, stretch panels
for: gym workouts, yoga classes, office work, petite women, postpartum support, golf rounds
women's jeans = skinny jeans, mom jeans, flared jeans
women's pants = palazzo pants, cargo pants
women's shorts = bermuda shorts, biker shorts
women's skirts = pleated skirt, denim skirt
women's leggings = yoga leggings, fleece lined leggings

[fashion | Clothing, Shoes & Jewelry › Women › Clothing › Sleep & Swim | 19 | clothes]
is: hand washable, quick drying, tagless, chlorine resistant, lightly padded, super stretchy
with: adjustable straps, removable cups, scalloped lace, spaghetti straps, seamless knit
with: cotton gusset, underwire support, reinforced toe, shelf bra, mesh insert
for: bridal showers, hot nights, swim lessons, winter evenings, valentines day, spa days
women's lingerie, sleep & lounge = pajama set, satin nightgown, sleep shirt
women's swimsuits & cover ups = one piece swimsuit, tankini set, sarong wrap
women's socks & hosiery = crew socks, opaque tights, compression stockings
women's robes = waffle robe, plush robe

[fashion | Clothing, Shoes & Jewelry › Men › Clothing | 26 | shirts]
is: machine washable, slim fitting, moisture wicking, wrinkle resistant, shrink resistant, tagless
with: long sleeves, short sleeves, crew neck, chest pocket, classic fit, button cuffs, spread collar
with: kangaroo pocket, zipper closure, heather cotton, double stitched hem, ribbed cuffs
for: tall men, gym workouts, fathers day, dress codes, fishing trips, winter layers, groomsmen gifts
men's t-shirts = graphic tee, pocket tee, v neck tee
men's polos = golf polo, pique polo
men's dress shirts = oxford dress shirt, twill dress shirt
men's casual button-down shirts = flannel shirt, chambray shirt, linen shirt
men's henleys = thermal henley, waffle henley
men's sweaters = crewneck sweater, shawl collar sweater
men's fashion hoodies & sweatshirts = zip up hoodie, pullover hoodie
men's jackets & coats = bomber jacket, rain jacket, quilted coat
men's suits & sport coats = two button suit, tweed sport coat

[fashion | Clothing, Shoes & Jewelry › Men › Clothing › Bottoms | 25 | clothes]
is: machine washable, relaxed fitting, stain resistant, quick drying, chafe free, regular fit
with: drawstring closure, elastic waist, contoured pouch
with: back pockets, tapered leg, hidden coin pocket
with: knee panels, button fly, ripstop fabric, brushed lining, mesh liner, anti odor finish
for: everyday comfort, running laps, camping weekends, warehouse jobs, lazy sundays, board meetings
men's jeans = bootcut jeans, slim jeans
men's pants = chino pants, jogger pants, cargo pants
men's shorts = swim shorts, basketball shorts
men's underwear = boxer briefs, trunk briefs
men's sleep & lounge = pajama pants, lounge set
"""

CARE = """
[beauty | Beauty & Personal Care › Hair Care | 17 | liquid]
is: sulfate free, paraben free, cruelty free, silicone free, color safe, salon grade, plant based
with: argan oil, tea tree oil, coconut oil
with: keratin complex, shea butter, rosemary extract, biotin boost
for: dry hair, damaged hair, curly hair, oily scalp
for: hair growth, fine hair, natural hair, split ends
shampoo & conditioner = clarifying shampoo, daily conditioner, dry shampoo
hair masks = repair hair mask, overnight hair mask
hair treatment oils = hair serum, scalp oil
scalp treatments = scalp scrub, scalp tonic
hair loss products = thickening serum, regrowth foam
hair coloring products = root touch up, henna powder, toning gloss
styling products = styling cream, curl mousse, matte clay

[beauty | Beauty & Personal Care › Makeup › Face & Eyes | 15 | makeup]
is: long lasting, highly pigmented, cruelty free, water proof, oil free, smudge proof, talc free
with: hyaluronic acid, vitamin e, jojoba oil
with: mirror compact, angled brush, shimmer finish, matte finish
for: sensitive skin, eye shadow, mature skin, stage makeup, fine lines, sparse brows, summer tans
eyes makeup = liquid eyeliner, volume mascara, brow pencil
face makeup = liquid foundation, setting powder, cream blush
lips makeup = matte lipstick, lip gloss, lip liner
makeup palettes = eyeshadow palette, contour palette
makeup brushes & tools = makeup brush set, blending sponge
makeup remover = micellar water, cleansing balm, makeup wipes
makeup sets = travel makeup kit, gift makeup set
body makeup = body shimmer, leg foundation
nail polish & care = gel polish, press on nails, cuticle oil

[beauty | Beauty & Personal Care › Skin Care | 19 | liquid]
is: fragrance free, dermatologist tested, paraben free, non greasy, certified organic, anti aging
with: salicylic acid, aloe vera, green tea, retinol complex, dead sea salt, oat extract, rose water
for: dry skin, acne scars, dark circles, dead skin
for: dark spots, stretch marks, cracked heels, baby skin
face care = face moisturizer, clay mask, vitamin c serum
eyes care = eye cream, eye patches
body care = body lotion, body butter
lip care = lip balm, lip scrub
scrubs & body treatments = sugar scrub, coffee scrub
foot, hand & nail care = foot cream, hand mask, callus remover
sunscreens & tanning products = mineral sunscreen, tanning mousse
skin care sets & kits = facial kit, bath gift set
skin care tools = jade roller, facial steamer, derma roller
bath & bathing accessories = bath bombs, loofah sponge, exfoliating gloves

[beauty | Beauty & Personal Care › Oral Care | 13 | style]
is: fluoride free, alcohol free, enamel safe, bpa free, travel friendly, ada accepted, gluten free
with: soft bristles, activated charcoal, storage case, xylitol, tongue scraper, coconut extract
for: bad breath, sensitive teeth, gum care
for: teeth whitening, coffee stains, braces wearers, dry mouth
toothpaste = whitening toothpaste, herbal toothpaste, kids toothpaste
toothbrushes & accessories = electric toothbrush, bamboo toothbrush, toothbrush holder
mouthwash = mint mouthwash, mouth rinse
dental floss & picks = floss picks, water flosser, woven floss
teeth whitening = whitening strips, whitening pen
tongue cleaners = copper tongue cleaner, tongue brush
denture care = denture cleaner tablets, denture bath
orthodontic supplies = retainer case, dental wax
children's dental care = kids flosser, baby toothbrush

[beauty | Beauty & Personal Care › Fragrance & Body | 26 | scent]
is: long lasting, alcohol free, travel size, aluminum free, vegan friendly, non staining
with: essential oils, sandalwood base, citrus notes, vanilla base, roll on applicator, baking soda
for: date nights, sensitive underarms, gift giving, gym bags, spring weddings, aroma lovers
women's fragrance = eau de parfum, body mist, perfume oil
men's fragrance = eau de toilette, cologne spray, solid cologne
children's fragrance = kids cologne, baby perfume
sets fragrance = perfume gift set, cologne sampler
deodorants & antiperspirants = natural deodorant, antiperspirant stick, deodorant cream
shave & hair removal = shaving cream, wax kit, aftershave balm

[beauty | Beauty & Personal Care › Tools & Accessories | 16 | gadget]
is: leak proof, easy to clean, lead free, rust proof, light weight, battery operated, high quality
with: stainless steel blade, rose gold finish, suction cups
with: led lights, magnifying mirror, pump lids
for: travel bags, hair salons, nail art, beauty salons, kids parties, dorm rooms, small bathrooms
bags & cases = toiletry bag, makeup organizer, brush case
mirrors = vanity mirror, hand mirror
refillable containers = travel bottles, spray bottle, cream jars
hair accessories = claw clips, silk scrunchies, headband set
bathing accessories = bath pillow, shower caddy
cotton balls & swabs = cotton swabs, cotton rounds
piercing & tattoo supplies = tattoo stencil paper, piercing needles
salon & spa equipment = salon stool, towel warmer, massage table
skin care maternity = belly oil, nipple balm
hair extensions, wigs & accessories = lace front wig, clip in extensions, wig cap
hair cutting tools = thinning shears, hair clipper
styling tools & appliances = curling wand, flat iron, hair dryer
manicure & pedicure tools = nail clippers, nail drill, pedicure basin
"""
