"""The electronics of the generated shop: invented data, read by ``families``."""

TECH = """
[electronics | Electronics › Home Audio | 58 | audio]
is: hands free, water proof, noise cancelling, high fidelity, wall mountable, voice controlled
with: bluetooth pairing, deep bass, stereo sound
with: optical input, fm tuner, carrying strap, led display
for: home theaters, pool parties, small desks, music studios, bedside tables, outdoor cinemas
bluetooth speakers = bluetooth speaker, shower speaker
soundbars = sound bar, compact soundbar
headphones = over ear headphones, wireless earbuds, gaming headset
bluetooth headsets = bluetooth headset, mono earpiece
turntables = vinyl turntable, belt drive turntable
home theater systems = home theater system, center channel speaker
av receivers & amplifiers = stereo amplifier, av receiver
cd players & recorders = portable cd player, cd boombox
clock radios = alarm clock radio, projection clock
boomboxes & portable radios = portable radio, emergency radio
surround sound systems = surround speakers, satellite speakers
speaker cables & parts = speaker wire, subwoofer cable

[electronics | Electronics › Television & Video | 49 | video]
is: high definition, plug and play, easy to install, full hd, dual band, ultra hd, high speed
with: remote control, usb port, backlit keys, tilt swivel arm, batteries included, quad core chip
for: home cinema, dorm rooms, conference rooms, rv trips, rooftop antennas, older televisions
televisions = led television, smart tv
television accessories = tv wall mount, tv antenna
projectors = mini projector, laser projector
projection screens = projector screen, portable movie screen
streaming media players = streaming box, streaming stick
dvd players & recorders = dvd player, car dvd player
blu-ray players & recorders = blu ray player, disc drive
remotes = replacement remote, universal remote
satellite television = satellite dish, signal finder
analog-to-digital converters = digital converter box, av to hdmi converter
vcrs = vhs player, tape rewinder

[electronics | Electronics › Camera & Photo | 64 | camera]
is: light weight, easy to carry, weather sealed, quick release, fast focusing, shock proof, fog free
with: carbon fiber, optical zoom, image stabilization, aluminum alloy, night vision, ball head
for: bird watching, product photos, family albums, vlogging beginners, wildlife safaris, studio work
digital cameras = digital camera, instant camera, mirrorless camera
lenses = prime lens, wide angle lens, macro lens
tripods & monopods = travel tripod, phone tripod
flashes = camera flash, ring light
binoculars & scopes = compact binoculars, spotting scope, monocular telescope
video surveillance = security camera, dome camera, doorbell camera
camera bags & cases = camera backpack, lens case
film photography = film camera, film scanner
photo studio = softbox kit, photo backdrop
underwater photography = underwater camera, dive housing
drones = camera drone, foldable drone

[electronics | Electronics › Cell Phones & Accessories | 18 | phone]
is: case friendly, wireless charging, drop proof, scratch proof, bubble free, fast charging
with: tempered glass, card slots, kickstand
with: magnetic ring, raised edges, braided cord, air vent clip
for: car dashboards, large screens, joggers, truck drivers, elderly parents, glove users
screen protectors = privacy screen protector, glass screen protector
iphone accessories = phone case, wallet case
chargers = wall charger, wireless charger pad, car charger
mounts = car phone mount, magnetic mount
cell phones = flip phone, rugged smartphone
power banks = power bank, solar power bank
wearable technology = smart watch, fitness tracker, watch band
signal boosters = wifi extender, cell signal booster

[electronics | Electronics › Computers & Accessories | 76 | computer]
is: plug and play, high performance, ultra slim, spill resistant, energy star, heat resistant
with: touch screen, solid state drive, mechanical switches
with: dual monitors, backlit keyboard, intel core
for: online classes, office desks, video editing, remote work, retro gamers, left handers
tablets = android tablet, kids tablet, drawing tablet
laptops = business laptop, gaming laptop, chromebook
keyboards & mice = mechanical keyboard, wireless mouse
monitors = curved monitor, portable monitor
printers & scanners = inkjet printer, label printer, document scanner
flash drives & memory cards = flash drive, memory card
gaming consoles = handheld game console, arcade stick
virtual reality = vr headset, vr controller grips

[electronics | Electronics › Power & Cables | 16 | cable]
is: high speed, gold plated, heavy duty, tangle free, surge protected, corrosion resistant
with: braided jacket, flat plug, ac outlets, aluminum shell, strain relief, overload switch
for: wall outlets, monitor arms, rack cabinets, car trunks, travel adapters, patch panels
hdmi cables = hdmi cable, micro hdmi adapter
power protection = power strip, surge protector, battery backup
batteries = rechargeable batteries, camera battery, lithium batteries
network cables = ethernet cable, coaxial cable
audio cables = aux cable, rca cable
"""
