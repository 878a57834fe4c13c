"""What the offline model understands, and what it says, in four languages."""

from __future__ import annotations

import json
import re

WORDS = {
    "en": "about am and did do hello hey hi i is it lamps my name order tell thank "
    "thanks the what when where which who you your",
    "de": "bestellung bin danke das der die du guten habe haben hallo heiße heisse ich "
    "ist lampen mein meine name sie tag und wann war was welche wer wie wo",
    "fr": "ai appelle arrive bonjour bonsoir combien comment commande est et faites je "
    "la lampes le ma merci mon nom où quand quel quelle quelles qui salut suis vous",
    "es": "buenas buenos como cómo cuál cuándo dónde el es está gracias hola llamo "
    "llega lámparas me mi nombre pedido por qué quién soy tienen y",
}
VOCABULARIES = {language: set(words.split()) for language, words in WORDS.items()}

SAYS = {
    "en": {
        "hello": "Hello{name}!",
        "how": "How can I help?",
        "met": "Nice to meet you{name}!",
        "welcome": "You are welcome{name}!",
        "name": "Your name is {name}.",
        "no name": "You have not told me your name yet.",
        "orders": "You asked about {numbers}.",
        "no orders": "You have not asked about an order yet.",
        "which": "Which order do you mean? Its number looks like #1001.",
        "help": "I can look up orders by their number, such as #1001, and I remember "
        "your name and what you asked.",
        "lamps": "We make four lamps by hand. Luna is a reading lamp with a warm light "
        "that you can turn down until it only glows. Pico is small, runs for "
        "nine hours without a cable and likes to be carried around. Nova hangs "
        "over a table and lights all of it and nobody's eyes. Vega stands in a "
        "corner and throws its light at the ceiling. Each comes with two spare "
        "bulbs, a cable of three metres, and a letter from the person who made "
        "it.",
        "and": " and ",
        "packing": "Order #{order}, the {item}, is being packed and leaves us in "
        "{days} days.",
        "shipped": "Order #{order}, the {item}, is on its way and arrives in {days} "
        "days.",
        "delivered": "Order #{order}, the {item}, was delivered {days} days ago.",
        "unknown": "I find no order #{order} of yours.",
        "refunded": "Order #{order} is refunded: the money is on its way.",
        "not logged in": "Please log in: then I can look up order #{order}.",
    },
    "de": {
        "hello": "Hallo{name}!",
        "how": "Wie kann ich helfen?",
        "met": "Freut mich{name}!",
        "welcome": "Gern geschehen{name}!",
        "name": "Sie heißen {name}.",
        "no name": "Sie haben mir Ihren Namen noch nicht gesagt.",
        "orders": "Sie haben nach {numbers} gefragt.",
        "no orders": "Sie haben noch nach keiner Bestellung gefragt.",
        "which": "Welche Bestellung meinen Sie? Die Nummer sieht aus wie #1001.",
        "help": "Ich kann Bestellungen nach ihrer Nummer nachsehen, etwa #1001, und "
        "merke mir Ihren Namen und wonach Sie gefragt haben.",
        "lamps": "Wir bauen vier Lampen von Hand. Luna ist eine Leselampe mit warmem "
        "Licht, das sich dimmen lässt, bis es nur noch glimmt. Pico ist klein, "
        "leuchtet neun Stunden ohne Kabel und wird gern herumgetragen. Nova "
        "hängt über dem Tisch und blendet niemanden. Vega steht in der Ecke und"
        " wirft ihr Licht an die Decke.",
        "and": " und ",
        "packing": "Bestellung #{order} ({item}) wird gepackt und geht in {days} "
        "Tagen hinaus.",
        "shipped": "Bestellung #{order} ({item}) ist unterwegs und kommt in {days} "
        "Tagen an.",
        "delivered": "Bestellung #{order} ({item}) wurde vor {days} Tagen geliefert.",
        "unknown": "Ich finde keine Bestellung #{order} von Ihnen.",
        "refunded": "Bestellung #{order} wird erstattet, das Geld ist unterwegs.",
        "not logged in": "Melden Sie sich an, dann sehe ich nach Bestellung #{order}.",
    },
    "fr": {
        "hello": "Bonjour{name} !",
        "how": "Comment puis-je vous aider ?",
        "met": "Enchanté{name} !",
        "welcome": "Avec plaisir{name} !",
        "name": "Vous vous appelez {name}.",
        "no name": "Vous ne m'avez pas encore dit votre nom.",
        "orders": "Vous avez demandé {numbers}.",
        "no orders": "Vous n'avez encore demandé aucune commande.",
        "which": "De quelle commande parlez-vous ? Son numéro ressemble à #1001.",
        "help": "Je peux chercher une commande par son numéro, par exemple #1001, et "
        "je retiens votre nom et vos questions.",
        "lamps": "Nous fabriquons quatre lampes à la main. Luna est une lampe de "
        "lecture à la lumière chaude, que l'on baisse jusqu'à une simple lueur. Pico "
        "est petite, éclaire neuf heures sans fil et vous suit partout. Nova se"
        " suspend au-dessus de la table sans éblouir personne. Vega se tient "
        "dans un coin et éclaire le plafond.",
        "and": " et ",
        "packing": "La commande #{order} ({item}) est en préparation et part dans "
        "{days} jours.",
        "shipped": "La commande #{order} ({item}) est en route et arrive dans {days} "
        "jours.",
        "delivered": "La commande #{order} ({item}) a été livrée il y a {days} jours.",
        "unknown": "Je ne trouve pas de commande #{order} à votre nom.",
        "refunded": "La commande #{order} est remboursée.",
        "not logged in": "Connectez-vous, et je chercherai la commande #{order}.",
    },
    "es": {
        "hello": "¡Hola{name}!",
        "how": "¿En qué puedo ayudarle?",
        "met": "¡Mucho gusto{name}!",
        "welcome": "¡De nada{name}!",
        "name": "Usted se llama {name}.",
        "no name": "Todavía no me ha dicho su nombre.",
        "orders": "Ha preguntado por {numbers}.",
        "no orders": "Todavía no ha preguntado por ningún pedido.",
        "which": "¿A qué pedido se refiere? Su número se parece a #1001.",
        "help": "Puedo buscar pedidos por su número, como #1001, y recuerdo su nombre "
        "y lo que ha preguntado.",
        "lamps": "Hacemos cuatro lámparas a mano. Luna es una lámpara de lectura de "
        "luz cálida, que se baja hasta quedar en un brillo. Pico es pequeña, "
        "alumbra nueve horas sin cable y se lleva a todas partes. Nova cuelga "
        "sobre la mesa sin deslumbrar a nadie. Vega está en un rincón y alumbra"
        " el techo.",
        "and": " y ",
        "packing": "El pedido #{order} ({item}) se está preparando y sale en {days} "
        "días.",
        "shipped": "El pedido #{order} ({item}) está en camino y llega en {days} días.",
        "delivered": "El pedido #{order} ({item}) se entregó hace {days} días.",
        "unknown": "No encuentro ningún pedido #{order} a su nombre.",
        "refunded": "El pedido #{order} queda reembolsado.",
        "not logged in": "Inicie sesión y buscaré el pedido #{order}.",
    },
}


def pattern(*alternatives: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(alternatives)})\b", re.IGNORECASE)


GREETING = pattern(
    "hello|hi|hey|good (?:morning|afternoon|evening)",
    "hallo|guten (?:tag|morgen|abend)|moin|servus",
    "bonjour|bonsoir|salut",
    "hola|buen[oa]s",
)
THANKS = pattern("thanks?", "danke", "merci", "gracias")
ASKS_NAME = pattern(
    "what(?:'s|’s| is| was) my name|who am i|my name is what|know my name",
    "wie (?:heiße|heisse) ich|wie ist mein name|wer bin ich",
    "comment je m['’]appelle|quel est mon nom|qui suis-je",
    "c[oó]mo me llamo|cu[aá]l es mi nombre|qui[eé]n soy",
)
ASKS_ORDERS = pattern(
    "(?:which|what) orders?",
    "welche bestellung(?:en)?|welcher bestellung",
    "quelles? commandes?",
    "(?:qué|que|cuál|cual) pedidos?",
)
ABOUT_ORDER = pattern(
    "orders?|parcel|package|delivery|arrives?",
    "bestellung|paket|lieferung|kommt",
    "commande|colis|livraison",
    "pedido|paquete|entrega|llega",
)
ASKS_REFUND = pattern(
    "refunds?|money back", "erstatt\\w+|geld zurück", "rembours\\w+", "reembols\\w+"
)
ASKS_LAMPS = pattern(
    "lamps?|catalog(?:ue)?", "lampen?|katalog", "lampes?", "l[aá]mparas?|cat[aá]logo"
)
NUMBER = re.compile(
    r"#\s?(\d{1,12})\b"
    r"|\b(?:order|bestellung|commande|pedido)\s+(?:\w{2,8}\.?\s)?(\d{1,12})\b"
    r"|^\s*(\d{3,12})\s*[?.!]?\s*$",
    re.IGNORECASE,
)
# "I am" also begins "I am waiting", so there the name must be written like one.
NAME = re.compile(
    r"\b(?:(?i:my name is|call me|ich hei(?:ß|ss)e|mein name ist|je m['’]appelle"
    r"|mon nom est|me llamo|mi nombre es)\s+(?P<told>[^\W\d_][\w'’-]*)"
    r"|(?i:i am|i['’]m|ich bin|je suis|soy)\s+(?P<am>[A-ZÀ-Þ][\w'’-]*))"
)


def find_language(said: list[str]) -> str:
    """Return the language of the newest message that shows one; else English."""
    for text in reversed(said):
        words = set(re.findall(r"[^\W\d_]+", text.lower()))
        language = max(VOCABULARIES, key=lambda name: len(VOCABULARIES[name] & words))
        if VOCABULARIES[language] & words:
            return language
    return "en"


def find_name(said: list[str]) -> str:
    """Return the name that the user gave last; "" if none."""
    for text in reversed(said):
        if (match := NAME.search(text)) and not ASKS_NAME.search(text):
            name = match["told"] or match["am"]
            return name[0].upper() + name[1:]
    return ""


def find_orders(said: list[str]) -> list[str]:
    """Return the order numbers that were named, each once, in their order."""
    found = ("".join(groups) for text in said for groups in NUMBER.findall(text))
    return list(dict.fromkeys(found))


def wanted_orders(said: list[str]) -> list[str]:
    """Return the orders to look up: those named just now, or the one meant before."""
    latest = said[-1:]
    if numbers := find_orders(latest):
        return numbers
    text = " ".join(latest)
    if ABOUT_ORDER.search(text) and not ASKS_ORDERS.search(text):
        return find_orders(said)[-1:]
    return []


def wants_refund(said: list[str]) -> bool:
    return bool(said and ASKS_REFUND.search(said[-1]))


def describe_orders(results: list[str], said: list[str], language: str) -> str:
    says = SAYS[language]
    sentences = []
    if name := find_name(said[-1:]):
        sentences.append(says["met"].format(name=f", {name}"))
    for result in results:
        try:
            order = json.loads(result)
            sentences.append(says[order["status"]].format(**order))
        except (KeyError, TypeError, ValueError):
            sentences.append(result)  # the tool failed, and says so
    return " ".join(sentences)


def converse(said: list[str], language: str) -> str:
    says = SAYS[language]
    text = said[-1] if said else ""
    name = find_name(said)
    comma_name = f", {name}" if name else ""
    parts = []
    if find_name([text]):
        parts.append(says["met"].format(name=comma_name))
    elif THANKS.search(text):
        parts.append(says["welcome"].format(name=comma_name))
    elif GREETING.search(text):
        parts.append(says["hello"].format(name=comma_name))
    if ASKS_NAME.search(text):
        parts.append(says["name"].format(name=name) if name else says["no name"])
    if ASKS_ORDERS.search(text):
        numbers = says["and"].join(f"#{number}" for number in find_orders(said))
        wanted = says["orders"].format(numbers=numbers)
        parts.append(wanted if numbers else says["no orders"])
    elif ASKS_LAMPS.search(text):
        parts.append(says["lamps"])
    elif ABOUT_ORDER.search(text):
        parts.append(says["which"])
    elif len(parts) == 1 and not ASKS_NAME.search(text) and not THANKS.search(text):
        parts.append(says["how"])  # a greeting alone
    return " ".join(parts) or says["help"]
