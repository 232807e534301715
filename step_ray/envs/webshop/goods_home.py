"""What the generated shop sells for the home: invented data, read by ``families``."""

HOME = """
[garden | Home & Kitchen › Furniture › Living Room Furniture | 170 | finish]
is: mid century, space saving, easy to assemble, fully assembled, scratch resistant, pet friendly
with: metal frame, solid wood legs, faux leather, storage shelf, tempered glass top, nailhead trim
with: button tufting, hidden storage, tapered legs, velvet upholstery, swivel base, gold accents
for: living rooms, small spaces, reading nooks, studio apartments, sun rooms, waiting areas
accent chairs = accent chair, barrel chair, wingback chair
sofas & couches = sectional sofa, loveseat sofa, sleeper sofa
console tables = console table, entryway table
coffee tables = coffee table, lift top table
end tables = end table, nesting tables
tv stands = tv stand, media cabinet
ottomans = storage ottoman, tufted ottoman
book cases = ladder bookcase, corner bookcase, cube bookcase
recliners = power recliner, rocker recliner
futons = futon couch, futon frame
chaise lounges = chaise lounge, indoor daybed
living room sets = sofa set, coffee table set

[garden | Home & Kitchen › Furniture › Bedroom Furniture | 180 | bed]
is: noise free, twin size, assembly required, fire retardant, certipur certified, wall mounted
with: memory foam layers, wood slats, steel frame
with: upholstered headboard, pocket springs, cooling gel
with: soft close drawers, usb ports, jewelry trays, rattan doors, antique knobs, under bed storage
for: guest rooms, kids rooms, side sleepers, master bedrooms, bunk rooms, heavy people, dorm rooms
mattresses = foam mattress, hybrid mattress, latex mattress
bedframes = platform bed frame, canopy bed frame, metal bed frame
headboards = wooden headboard, tufted headboard
nightstands = bedside table, floating nightstand
dressers = six drawer dresser, tall dresser
vanities = makeup vanity, vanity desk
armoires & wardrobes = wardrobe closet, jewelry armoire
box springs = box spring, bunkie board
bunk beds = bunk bed, loft bed
mattress toppers = mattress topper, gel topper

[garden | Home & Kitchen › Furniture › Kitchen & Office Furniture | 140 | finish]
is: heavy duty, height adjustable, easy to clean, rust resistant, fully adjustable, counter height
with: lumbar support, wire rack, wine holder, caster wheels, drop leaf, padded arms, cable tray
for: home offices, breakfast bars, dining rooms, craft rooms, gaming setups, conference rooms
bar stools = swivel bar stool, backless bar stool, saddle stool
dining chairs = dining chair, parsons chair
dining sets = dining table set, bistro set
buffets & sideboards = buffet cabinet, sideboard table
baker's racks = bakers rack, microwave stand
desks = writing desk, standing desk, corner desk
office chairs = ergonomic office chair, drafting chair, kneeling chair
file cabinets = file cabinet, mobile pedestal
kitchen islands = kitchen island, rolling cart

[garden | Home & Kitchen › Bedding & Textiles | 38 | textile]
is: machine washable, super soft, double sided, hypo allergenic, fade resistant, thermal insulated
with: hidden zipper, corner ties, grommet top, tassel fringe, bamboo fabric, quilted pattern
for: queen beds, winter nights, patio doors, farmhouse kitchens, nurseries, bathroom floors
decorative pillows = throw pillow cover, lumbar pillow
throw blankets = sherpa throw blanket, knit blanket
bedding sets = duvet cover set, comforter set, sheet set
window coverings = blackout curtains, roller shade, sheer panels
area rugs = shag rug, runner rug, outdoor rug
slipcovers = sofa slipcover, chair cover
table linens = table runner, round tablecloth, linen napkins
bath rugs & towels = bath mat, towel set

[garden | Home & Kitchen › Home Décor Products | 33 | art]
is: ready to hang, hand painted, eco friendly, uv protected, fade proof, hand crafted, shatter proof
with: canvas print, wood frame, brushed metal
with: silent movement, beveled edges, faux stems, cotton wick
for: home decor, wedding centerpieces, entry halls, office walls, christmas mantels, beach houses
wall art = canvas wall art, metal wall sculpture, framed poster
decorative mirrors = arched mirror, sunburst mirror
wall clocks = wall clock, pendulum clock
candles = soy candle, pillar candles, flameless candles
candle holders = candle lantern, tealight holders
vases = ceramic vase, bud vase set
artificial plants = artificial ficus, silk orchid, faux succulents
picture frames = collage picture frame, tabletop picture frame
baskets and storage = seagrass basket, storage bin, wire basket
wallpaper = peel and stick wallpaper, grasscloth wallpaper
shelving = floating shelves, corner shelf

[garden | Tools & Home Improvement › Lighting & Ceiling Fans › Indoor Lighting | 62 | lamp]
is: energy efficient, dimmable, easy to install, mood lighting, ul listed, touch activated
with: glass shade, brushed nickel finish, remote control, linen shade, pull chain, crystal drops
for: dining tables, bedside reading, high ceilings, vanity mirrors, hallway walls, industrial lofts
floor lamps = arc floor lamp, torchiere floor lamp
table lamps = ceramic table lamp, banker lamp
chandeliers = crystal chandelier, rustic chandelier
pendants and chandeliers = glass pendant light, cage pendant light
sconces = wall sconce, swing arm sconce
ceiling lights = flush mount light, track light
ceiling fans = ceiling fan, hugger fan
vanity lights = vanity light bar, bath sconce
night lights = plug in night light, motion night light
string lights = fairy string lights, globe string lights
"""

GROCERY = """
[grocery | Grocery & Gourmet Food › Snack Foods | 21 | snack]
is: gluten free, non gmo, low sodium, dairy free, kosher certified, individually wrapped, nut free
with: sea salt, dark chocolate, natural flavors, chia seeds, real fruit, whole grains, high fiber
for: lunch boxes, school snacks, movie nights, hiking trips, keto diets, party favors
chips & crisps = tortilla chips, kettle chips, veggie crisps
crackers = rice crackers, seeded crackers
nuts & seeds = roasted almonds, mixed nuts, pumpkin seeds
popcorn = kettle corn, popcorn kernels
granola & bars = granola bars, protein bars, oat granola
cookies = butter cookies, shortbread cookies
chocolate candy = chocolate truffles, chocolate bark
gummies & candy = gummy bears, licorice twists, fruit chews
dried fruit = dried mango, fruit leather

[grocery | Grocery & Gourmet Food › Beverages | 23 | drink]
is: caffeine free, usda organic, sugar free, fair trade, low calorie, keto friendly, shelf stable
with: real ginger, natural caffeine, stevia leaf, added electrolytes, oat milk, lemon peel
for: iced drinks, cold brewing, morning routines, bedtime calm, pod brewers, workout recovery
ground coffee = ground coffee, espresso beans
tea bags = herbal tea, green tea bags, chai tea
juices = apple juice, tart cherry juice
sparkling water = sparkling water, tonic water
protein shakes = protein shake, meal replacement shake
energy drinks = energy drink, energy shots
drink mixes = lemonade mix, hot cocoa mix

[grocery | Grocery & Gourmet Food › Pantry Staples | 19 | food]
is: plant based, soy free, grain free, low carb, artisan made, cold pressed, additive free
with: garlic flavor, olive oil, himalayan salt, black truffle, smoked paprika, no preservatives
for: stir fry, baking days, slow cookers, salad bowls, holiday gifts, barbecue parties
sauces & marinades = hot sauce, pasta sauce, teriyaki marinade
spices & seasonings = curry powder, steak seasoning
pasta & noodles = chickpea pasta, ramen noodles
rice & grains = basmati rice, quinoa blend
nut butters & spreads = almond butter, fruit preserves
baking mixes = pancake mix, brownie mix
soups & broths = bone broth, lentil soup

[grocery | Grocery & Gourmet Food › Meat, Dairy & Frozen | 44 | food]
is: grass fed, fully cooked, wild caught, nitrate free, ready to eat, sustainably raised
with: hickory smoke, cracked pepper, high protein, cheddar cheese, omega acids, honey glaze
for: quick dinners, charcuterie boards, family meals, gift baskets, camping meals
meat & seafood = beef jerky, smoked salmon, summer sausage
meat sticks & snacks = turkey sticks, bacon jerky
cheese = aged cheddar, cheese sampler
frozen meals = frozen dumplings, frozen pizza
"""
