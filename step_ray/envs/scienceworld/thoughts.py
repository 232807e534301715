"""The expert's thoughts: one or two sentences that say why its next action comes now.

Several phrasings per case, chosen by a hash of task and turn: varied, yet reproducible. What they
name comes from the task, from what was read so far and from the plan's next steps.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from step_ray.envs.scienceworld.commands import TRAVEL, Command, bare, parse
from step_ray.envs.scienceworld.reasons import (
    Work,
    awaited,
    carried,
    finding,
    goal_of,
    heats,
    is_door,
    known_in,
    leg,
    next_work,
    purpose,
    shown,
    sought,
    thing_of,
)
from step_ray.envs.scienceworld.transcript import Transcript

# {goal} the task · {thing} what is needed, with article · {Need} what it is needed for, a sentence
# {room} where the next thing is to be done · {next} the next room · {toward} why through there
# {item} {place} of the action · {why} what the item is for, or empty
_THOUGHTS: dict[str, tuple[str, ...]] = {
    "go_seen": (
        "{Need} I saw it in the {room}, so I go to the {next}{toward}.",
        "{Need} The {room} is where I saw it. I go to the {next}{toward}.",
        "I remember {thing} in the {room}. {Need} I go to the {next}{toward}.",
    ),
    "go_task": (
        "{Need} The task speaks of the {room}, so I go to the {next}{toward}.",
        "The task points to the {room}. {Need} My next step is to go to the {next}{toward}.",
        "{Need} The {room} is the place that the task names, so I go to the {next}{toward}.",
    ),
    "go_bring": (
        "I have {thing} with me and have to {deed}. The {room} is the place for that, so I go to "
        "the {next}{toward}.",
        "Now that I have {thing}, I have to {deed}. I go to the {next}{toward}.",
        "Next I have to {deed}. For that I go to the {next}{toward}.",
    ),
    "go_explore": (
        "{Need} I do not know where to find it, so I have a look at the {room}{via}.",
        "{Need} It could be anywhere. I try the {room}{via}.",
        "{Need} I have not found it yet. The {room} is worth a look{via}.",
    ),
    "go_guess": (
        "{Need} It may be in the {room}, so I go to the {next}{toward}.",
        "{Need} I have not seen it so far. The {room} is a good place to look, so I go to the "
        "{next}{toward}.",
        "{Need} I try the {room} and go to the {next}{toward}.",
    ),
    "door": (
        "I want to get to the {room}{because}. The door to the {next} is in the way, so I open it.",
        "My way leads to the {room}{because}. First I open the door to the {next}.",
        "To reach the {room}{because} I have to open the door to the {next}.",
    ),
    "look_new": (
        "I am in the {here} now. I look around to find {thing}.",
        "This is the {here}. Before I do anything I look around for {thing}.",
        "I do not know yet what is in the {here}, so I look around. I hope to see {thing}.",
    ),
    "look_again": (
        "Things have changed here. I look around to see how matters stand before I go on.",
        "I check the {here} again, as what I did may have changed it.",
        "I look around once more to see what has become of everything.",
    ),
    "open": (
        "The {item} is closed. {What} may be inside, so I open it.",
        "I cannot see into the {item} while it is closed. I open it to get at {what}.",
        "I open the {item}, because I need {what} and it could be in there.",
    ),
    "open_put": (
        "I want to put {what} into the {item}, so I open the {item} first.",
        "The {item} has to be open before {what} can go in.",
    ),
    "pick": (
        "There is the {item}. I need it{why}, so I pick it up.",
        "I need the {item}{why}. I take it with me.",
        "The {item} is here and I want it{why}. I pick it up.",
    ),
    "focus": (
        "The task asks me to focus on the {item}, and here it is.",
        "This is the {item} that the task is about, so I focus on it.",
        "I can see the {item}. Now I focus on it, as the task demands.",
    ),
    "focus_stage": (
        "The next life stage is here: the {item}. I focus on it.",
        "In the order of life stages the {item} comes now, so I focus on it.",
        "I see the {item}. That is the stage whose turn it is, so I focus on it.",
    ),
    "focus_choice": (
        "Of those I can see the {item} is the one the task asks for. I focus on it.",
        "I compare what is here by what the task says. My answer is the {item}, so I focus on it.",
        "The {item} fits the task best, so I focus on it.",
    ),
    "answer": (
        "I know the answer: {found}. So I choose the {box}.",
        "As {found}, the right choice is the {box}.",
        "The result is clear, for {found}. That means the {box}.",
    ),
    "move_box": (
        "The task wants the {item} in the {place}, so I move it there.",
        "I have the {item}, and the {place} is here. I put it in, as the task says.",
        "The {item} belongs in the {place}. That is what is left to do.",
    ),
    "move_heat": (
        "I have to {heat} the {item}. The {place} can do that, so I move it there.",
        "The {place} will {heat} the {item}, so I put it there.",
    ),
    "move": (
        "I put the {item} {at} the {place}, for they belong together in what I do next.",
        "Next the {item} has to be {at} the {place}, so I move it there.",
        "I need the {item} {at} the {place} to go on. I move it.",
    ),
    "drop": (
        "I have brought the {item} to the right place, so I put it down here.",
        "I need the {item} here and my hands free. I put it down.",
    ),
    "activate": (
        "Everything is in place, so I turn on the {item}.",
        "The {item} does nothing until it is turned on. I activate it.",
        "Now I need the {item} to work, so I activate it.",
    ),
    "deactivate": (
        "The {item} has done its work. I turn it off.",
        "I do not need the {item} to run any longer, so I deactivate it.",
    ),
    "measure": (
        "I want to know how warm the {place} is, so I use the {item} on it.",
        "The temperature tells me how far I am. I measure the {place} with the {item}.",
        "I check the temperature of the {place} with the {item}.",
    ),
    "use": (
        "The {item} is the right tool here. I use it on the {place}.",
        "I have the {item} and need it for the {place}, so I use it now.",
    ),
    "use_alone": ("I use the {item} now, because the next step depends on it.",),
    "pour": (
        "I need the {item} in the {place}, so I pour it in.",
        "What I make comes together in the {place}. I pour the {item} into it.",
        "The {place} can hold it. I pour in the {item}.",
    ),
    "mix": (
        "All that I need is in the {item}. I mix it to get something new.",
        "The {item} holds the ingredients, so I mix them.",
    ),
    "connect": (
        "The circuit needs a closed loop. I connect the {item} with the {place}.",
        "Step by step the circuit comes together: now the {item} and the {place}.",
        "Electricity has to get from the {item} to the {place}, so I connect them.",
    ),
    "wait": (
        "I am waiting for {event}, which needs time.",
        "Nothing more can be done at the moment. I wait for {event}.",
        "It is not ready yet. I give it more time: I am waiting for {event}.",
        "I let some time pass, for I am waiting for {event}.",
    ),
    "watch": (
        "I keep an eye on the {item} while time passes.",
        "It is not over yet. I go on watching the {item}.",
        "I look at the {item} again, because every moment counts here.",
        "Is there still something going on? I watch the {item}.",
    ),
    "pause": (
        "I take a moment to look over the {here} before I go on.",
        "There is no hurry. I let my eyes go over the {here} once more.",
    ),
    "examine": (
        "I want to see what has become of the {item}, so I examine it.",
        "Has the {item} changed? I take a closer look.",
        "I check the state of the {item} before I go on.",
    ),
    "read": (
        "The {item} may tell me what I have to know, so I read it.",
        "I need to know what to do next. I read the {item}.",
    ),
    "number": (
        "Several things fit what I said. Number {item} is the one I mean.",
        "I am asked which one I mean, and I choose number {item}.",
    ),
    "other": (
        "My plan for the task needs this now: {action}.",
        "To {goal}, the next step is this: {action}.",
    ),
}


def thought_of(now: Transcript, plan: Sequence[str], description: str, key: str) -> str:
    """The thought before ``plan[0]``.

    ``description``: the task in the engine's words; ``key``: names task and turn.
    """
    command = parse(plan[0])
    work = next_work(plan, now.room)
    case = _case(now, plan, command, work, description)
    phrasings = _THOUGHTS[case]
    thought = phrasings[_choice(f"{key}|{case}", len(phrasings))].format_map(
        _words(now, plan, command, work, description)
    )
    if not now.events:
        openings = ("My task is to {}.", "I have to {}.", "The goal is to {}.")
        opening = openings[_choice(f"{key}|start", len(openings))]
        return f"{opening.format(goal_of(description))} {thought}"
    return thought


def _case(
    now: Transcript, plan: Sequence[str], command: Command, work: Work | None, description: str
) -> str:
    verb, item, place = command.verb, shown(command.item), shown(command.place)
    found = finding(now, description)
    if verb in TRAVEL:
        return f"go_{_errand(now, plan, work, description)}"
    if is_door(command):
        return "door" if verb == "open" else "other"
    if verb == "look":
        return "look_again" if now.room in now.looked else "look_new"
    if verb == "open":
        return "open_put" if work and _inside(work, item) else "open"
    if verb == "focus":
        if found and item.endswith("box"):
            return "answer"
        if "life stages of" in description:
            return "focus_stage"
        return "focus" if _named(item, description) else "focus_choice"
    if verb == "move":
        if place.endswith("box"):
            return "answer" if found else "move_box"
        return "move_heat" if heats(place) else "move"
    if verb == "use":
        if not place:
            return "use_alone"
        return "measure" if item == "thermometer" else "use"
    if verb == "dunk":
        return "move"
    if verb == "examine" and item == now.room:
        return "pause"
    if verb == "examine" and plan[0] in now.actions[-2:]:
        return "watch"
    return verb if verb in _THOUGHTS else "other"


def _errand(now: Transcript, plan: Sequence[str], work: Work | None, description: str) -> str:
    if work is None:
        return "guess"
    if carried(now, work.command.item) or carried(now, thing_of(work.command)):
        return "bring"
    if leg(plan, now.room) != work.room:
        return "explore"
    return known_in(now, description, thing_of(work.command), work.room) or "guess"


def _words(
    now: Transcript, plan: Sequence[str], command: Command, work: Work | None, description: str
) -> dict[str, str]:
    item, place = shown(command.item), shown(command.place)
    thing = sought(now, description, work.command) if work else "what the task asks for"
    if work and work.command.place and carried(now, thing_of(work.command)):
        thing = f"the {shown(work.command.place)}"
    straight = leg(plan, now.room)
    room = straight if straight != now.room else now.room
    target = command.item.removeprefix("door to ").removeprefix("the ")
    why = purpose(item, plan[1:])
    inside = _wanted(now, plan[1:], item, description)
    return {
        "goal": goal_of(description),
        "action": plan[0],
        "thing": thing,
        "deed": _deed(work.command) if work else "finish the task",
        "Need": _need(thing, work) if work else "The task is nearly done.",
        "because": f" for {thing}" if work and not carried(now, thing_of(work.command)) else "",
        "room": room,
        "here": now.room,
        "next": target,
        "via": "" if target == room else f". First I go to the {target}",
        "toward": "" if target == room else f", which is on the way to the {room}",
        "item": item,
        "place": place,
        "box": place or item,
        "why": f" {why}" if why else "",
        "what": inside,
        "What": inside[:1].upper() + inside[1:],
        "at": "on" if place.startswith(_SURFACES) else "in",
        "heat": heats(place),
        "event": awaited(now, plan, description),
        "found": finding(now, description),
    }


def _need(thing: str, work: Work) -> str:
    """What the next thing is needed for, as a sentence."""
    command = work.command
    if command.verb == "focus":
        return f"I have to focus on {thing}."
    if command.verb in ("move", "pour", "dunk"):
        return f"I need {thing} to go into the {shown(command.place)}."
    if command.verb == "connect":
        return f"I need {thing} for the electrical circuit."
    rest = work.rest if command.verb == "pick" else (work.action, *work.rest)
    why = purpose(thing_of(command), rest)
    return f"I need {thing} {why}." if why else f"I need {thing}."


def _deed(command: Command) -> str:
    """What is done with a thing that the agent carries."""
    item, place = shown(command.item), shown(command.place)
    if command.verb in ("move", "pour", "dunk"):
        return f"put it into the {place}"
    if command.verb == "use" and item == "thermometer":
        return f"measure the temperature of the {place}"
    if command.verb == "use":
        return f"use the {item}" + (f" on the {place}" if place else "")
    if command.verb == "drop":
        return "put it down where I can use it"
    return f"{_DEEDS.get(command.verb, command.verb)} the {item}"


_SURFACES = ("stove", "table", "counter", "inclined plane", "hot plate", "chair", "desk")
_DEEDS = {"focus": "focus on", "mix": "mix what is in", "pick": "pick up"}


def _inside(work: Work, container: str) -> bool:
    return any(shown(parse(action).place) == container for action in (work.action, *work.rest)[:3])


def _wanted(now: Transcript, rest: Sequence[str], container: str, description: str) -> str:
    """What an opened container is opened for."""
    for action in rest:
        command = parse(action)
        if command.verb == "move" and shown(command.place) == container:
            return f"the {shown(command.item)}"
        if command.verb in ("pick", "focus", "move", "use", "pour", "mix"):
            return sought(now, description, command)
    return "something I need"


def _named(item: str, description: str) -> bool:
    text = description.lower()
    return all(word in text for word in bare(item).lower().split())


def _choice(key: str, size: int) -> int:
    return zlib.crc32(key.encode()) % size
