"""Words of the generated shop that do not depend on the section: options, fillers, sentences."""

from __future__ import annotations


def _list(text: str) -> list[str]:
    return text.split("|")


BRAND_STARTS = _list(
    "Bel|Cor|Dra|El|Fen|Gal|Hol|Ivo|Jan|Kel|Lor|Mar|Nor|Or|Pal|Quin|Ros|Sol|Tor|Ul|Vel|Wes|Yar|Zan"
)
BRAND_ENDS = _list(
    "dana|vik|mora|tex|lund|ette|ia|ova|nest|wyn|brook|line|aro|zeno|fera|gard|hue|ium|kin|loft"
)

COLORS = _list(
    "Black|White|Grey|Navy|Red|Blue|Green|Pink|Beige|Brown|Purple|Khaki|Charcoal|Teal|Ivory|Wine|"
    "Olive|Yellow|Orange|Silver|Gold|Rose Gold|Light Blue|Dark Grey|Army Green|Royal Blue|Coral|"
    "Burgundy|Mint Green|Sky Blue|Hot Pink|Lavender|Turquoise|Mustard|Black/White|Navy/Red|"
    "Grey/Blue|Cream|Coffee|Camel|Denim Blue|Forest Green|Leopard|Plaid Red|Striped Blue|Floral"
)
SIZES = _list("X-Small|Small|Medium|Large|X-Large|XX-Large|3X-Large|4X-Large|5X-Large")
SHOE_SIZES = _list("5|5.5|6|6.5|7|7.5|8|8.5|9|9.5|10|10.5|11|11.5|12|13")
DIMENSIONS = _list(
    '12" x 18"|16" x 24"|20" x 20"|24" x 36"|30" x 40"|40" x 60"|48" x 72"|52" x 84"|60" x 80"'
)

# kind of options -> group -> its values, in the order in which a shop would list them
OPTIONS: dict[str, dict[str, list[str]]] = {
    "shoes": {"Color": COLORS, "Size": SHOE_SIZES},
    "clothes": {"Color": COLORS, "Size": SIZES},
    "shirts": {"Color": COLORS, "Size": SIZES, "Fit Type": ["Regular", "Slim", "Big & Tall"]},
    "liquid": {
        "Size": _list("1 Ounce|2 Ounce (Pack of 1)|4 Ounce (Pack of 2)|8 Fl Oz|12 Fl Oz|1 Liter"),
        "Scent": _list("Cedar|Lavender|Coconut|Citrus Mint|Vanilla|Rose|Green Apple"),
    },
    "makeup": {"Color": COLORS, "Style": _list("Single|Duo|Full Kit|Refill")},
    "style": {
        "Color": COLORS,
        "Size": _list("1 Count|2 Count|4 Count|6 Count|12 Count (Pack of 2)"),
        "Style": _list("Soft|Medium Firm|Kids|Daily Care|Sensitive Care"),
    },
    "scent": {
        "Scent": _list("Fresh Linen|Ocean Breeze|Woody Amber|Vanilla|Bergamot|White Tea|Lime"),
        "Size": _list("10 ml|30 ml|1.6 Ounce (Pack of 1)|3.4 Fl Oz (Pack of 1)"),
    },
    "gadget": {"Color": COLORS, "Size": _list("1 Pack|2 Pack|4 Pack|10 Pack|20 Pack")},
    "finish": {
        "Color": _list("Walnut|Oak|Rustic Brown|Espresso|White|Black|Grey|Cherry|Natural|Teal"),
        "Size": _list("Small|Medium|Large|Extra Large|Extra Wide"),
    },
    "bed": {
        "Size": _list("Twin|Twin XL|Full|Queen|King|California King"),
        "Color": _list("Walnut|Espresso|White|Black|Grey|Beige|Navy"),
        "Style": _list("6 Inch|8 Inch|10 Inch|12 Inch|14 Inch"),
    },
    "textile": {"Color": COLORS, "Size": DIMENSIONS},
    "art": {"Color": COLORS, "Size": DIMENSIONS},
    "lamp": {
        "Color": _list("Black|Brushed Nickel|Antique Brass|White|Bronze|Chrome|Gold"),
        "Size": _list("1-Light|2-Light|3-Light|5-Light|8-Light"),
    },
    "audio": {"Color": COLORS[:12], "Style": _list("Single|Stereo Pair|With Dock|Bundle")},
    "video": {"Color": COLORS[:6], "Size": _list("24 Inch|32 Inch|43 Inch|55 Inch|75 Inch")},
    "camera": {
        "Color": COLORS[:10],
        "Style": _list("Body Only|Starter Kit|Travel Bundle|Pro Kit"),
    },
    "phone": {"Color": COLORS, "Size": _list("1-Pack|2-Pack|3-Pack|5-Pack|10-Pack")},
    "computer": {"Size": _list("64GB|128GB|256GB|512GB|1TB"), "Color": COLORS[:12]},
    "cable": {"Size": _list("1.5 Feet|3 Feet|6 Feet|10 Feet|25 Feet"), "Color": COLORS[:8]},
    "snack": {
        "Flavor Name": _list("Original|Sea Salt|Barbecue|Honey Mustard|Sour Cream|Chili Lime"),
        "Size": _list("1 Ounce (Pack of 12)|4 Ounce (Pack of 6)|8 Ounce|16 Ounce|2 Pound"),
    },
    "drink": {
        "Flavor Name": _list("Original|Vanilla|Peach|Raspberry|Lemon|Mocha|Hazelnut|Mango"),
        "Size": _list("11 Fl Oz (Pack of 6)|11 Fl Oz (Pack of 24)|10 Ounce|2 Pound|Single"),
    },
    "food": {
        "Flavor Name": _list("Classic|Spicy|Mild|Smoky|Garlic Herb|Teriyaki|Maple"),
        "Size": _list("6 Ounce (Pack of 4)|12 Ounce (Pack of 2)|1 Pound|3 Pound|5 Pound"),
    },
}

# category -> how often a product has which groups of options ("*" = all the kind has)
GROUPS: dict[str, dict[str, int]] = {
    "fashion": {"": 22, "Color,Size": 40, "Size": 12, "Color": 4, "*": 28},
    "beauty": {"": 66, "first": 16, "second": 11, "first,second": 6},
    "garden": {"": 52, "Color": 24, "Size": 12, "Color,Size": 12},
    "electronics": {"": 79, "Color": 13, "second": 4, "first,second": 4},
    "grocery": {"": 75, "Size": 10, "Flavor Name": 9, "Flavor Name,Size": 6},
}

# attributes that go with anything: (role, phrase)
ANYTHING = (
    ("is", "high quality"),
    ("is", "easy to use"),
    ("is", "money saving"),
    ("is", "officially licensed"),
    ("is", "factory sealed"),
    ("is", "quality checked"),
    ("is", "responsibly sourced"),
    ("is", "family owned"),
    ("is", "award winning"),
    ("with", "gift box"),
    ("with", "customer service"),
    ("with", "recyclable packaging"),
    ("with", "bonus guide"),
    ("with", "spare parts"),
    ("for", "birthday gifts"),
    ("for", "house warming"),
    ("for", "mothers day"),
    ("for", "daily life"),
)

TITLE_FILLERS: dict[str, tuple[str, ...]] = {
    "fashion": (
        "New Arrival",
        "2022 Collection",
        "Trendy Cut",
        "Everyday Essential",
        "Soft and Breathable",
        "Comfy Basic",
        "Season Favorite",
        "Classic Cut",
        "Plus Sizes Available",
        "Vintage Look",
    ),
    "beauty": (
        "Pack of 1",
        "Made in Small Batches",
        "Gentle Formula",
        "Unisex",
        "Value Size",
        "Professional Choice",
        "Set of 2",
        "Visible Results",
        "Clean Recipe",
        "Refreshing Feel",
    ),
    "garden": (
        "Set of 2",
        "Modern Design",
        "Indoor and Covered Outdoor",
        "Contemporary Look",
        "Farmhouse Inspired",
        "Sturdy Build",
        "Room Accent",
        "Large Model",
        "Clean Lines",
        "Made to Last",
    ),
    "electronics": (
        "Model 2022",
        "Upgraded Version",
        "Second Generation",
        "Compact Build",
        "Manual in English",
        "Series 3",
        "Quick Start in Minutes",
        "Single Unit",
        "Wide Compatibility",
        "Slim Profile",
    ),
    "grocery": (
        "Bulk Pack",
        "Resealable Bag",
        "Small Batch",
        "Family Recipe",
        "Pack of 3",
        "Great Taste",
        "Fresh From the Farm",
        "Best Before Printed",
        "Party Size",
        "Kitchen Favorite",
    ),
}

# sentences of bullets and descriptions about one attribute
ATTRIBUTE_SENTENCES: dict[str, tuple[str, ...]] = {
    "is": (
        "This {noun} is {a}.",
        "Tested again and again: {a}, as it should be.",
        "We made sure that it is {a}.",
        "Proudly {a}, like everything from {brand}.",
    ),
    "with": (
        "It comes with {a}.",
        "The {noun}, with {a}, is what our customers asked for.",
        "Look closely: {brand} makes it with {a}.",
        "Made with {a} that you will notice at once.",
    ),
    "for": (
        "A great choice for {a}.",
        "We had {a} in mind when we made it.",
        "Ideal for {a} and much more.",
        "Many of our customers buy it for {a}.",
    ),
    "noun": ("Your new {a} is on its way soon.", "Not just any {a}.", "The {a} by {brand}."),
}

FILLER_SENTENCES = (
    "{brand} has been making things with care for many years.",
    "Every {noun} is checked by hand before it leaves us.",
    "If you have any question about this {noun}, please write to our team.",
    "Colors may look slightly different on your screen.",
    "Please measure twice and allow a small difference.",
    "We ship within two days after your order.",
    "The {noun} arrives in a plain box with a short note.",
    "A piece you will reach for again and again.",
    "Our customers tell us that this {noun} makes their day a little better.",
    "We are a small team that answers every message.",
    "Not satisfied? Send it back within thirty days.",
    "Simple, honest and well made: that is {brand}.",
    "See the pictures for all details of the {noun}.",
    "Keep it in a dry place when you do not use it.",
    "You get exactly what you see in the first picture.",
    "It looks better the longer you look at it.",
    "Read the label before first use.",
    "The {brand} workshop works in two shifts to keep up with your orders.",
    "Choose the one you like best and leave the rest to us.",
    "Package content: one {noun} as described.",
    "Thank you for visiting the {brand} store.",
    "There is a reason why people come back to {brand}.",
    "Compare this {noun} with what you have now and see the difference.",
    "Tell your friends if you like it and tell us if you do not.",
)

BULLET_LEADS = (
    "WHY YOU WILL LIKE IT",
    "DETAILS",
    "QUALITY",
    "GOOD TO KNOW",
    "OUR PROMISE",
    "IN SHORT",
    "ABOUT {BRAND}",
    "THE {NOUN}",
)
