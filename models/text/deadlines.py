"""Finds the time phrases in spoken or typed words that `models/text/actions` uses as due times.

British care talk, typed or recognised: 'by four', 'first thing', 'tmrw', 'after the 999 call', 'within the hour'.
"""

import re
from typing import Final

_DAY: Final = (
    r"(?:mondays?|tuesdays?|wednesdays?|thursdays?|fridays?|saturdays?|sundays?|mon|tues?|weds?|thurs?|fri|"
    r"(?<=on )sat|(?<=on )sun|sat(?=\s*(?:am|pm|morning|afternoon|night|$|[.,!]))|sun(?=\s*(?:am|pm|$))|"
    r"today|tonight|2nite|the\s+day(?=\s*(?:$|[.,!]))|"
    r"tomorrow|tmrw|tomoro|tomoz|tomorow|2moro|the\s+morn|the\s+morra|the\s+morrow|"
    r"(?<!in )the\s+night(?=\s+(?:and|when|before|after)|$|[.,])|"
    r"same\s+day(?!\s+\w)|the\s+\d{1,2}(?:st|nd|rd|th)|"
    r"(?<=on )the\s+(?:twenty-?|thirty-?)?(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth)(?!\s+\w)|"
    r"the\s+(?:tenth|eleventh|twelfth|\w+teenth|twentieth|thirtieth))"
)
_WEEKDAY: Final = r"(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_MONTH: Final = (
    r"(?:january|february|april|june|july|august|september|october|november|december|(?<=in )may|(?<=in )march|"
    r"(?<=by )may|(?<=by )march|(?<=for )may|(?<=for )march)"
)
_NUMBER: Final = (
    r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|\d{1,2})"
)
_CLOCK: Final = (
    rf"(?:(?:half|quarter|ten|five|twenty|\d{{1,2}})\s+(?:past|to)\s+{_NUMBER}|{_NUMBER}\s+o'?clock|"
    rf"\d{{1,2}}(?:[:.]\d{{2}})?\s?(?:am|pm|ish)?|half\s+{_NUMBER}|{_NUMBER}|noon|midnight|midday)"
)
_PART: Final = r"(?:mornin(?:g|')?|afternoon|aft|evenin(?:g|')?|night|am|pm|dinner\s?time|teatime|lunchtime)"
_MEAL: Final = (
    r"(?:breakfast|lunch|dinner\s?time|dinner|teatime|tea|supper|handover|break|rounds?|shift|bedtime|work(?=\s*(?:$|[.,!?]))|meeting|"
    r"bingo|coffee|visiting(?:\s+time)?|half[\s-]time|dark|this(?!\s+(?!every\b|and\b|if\b|so\b|cos\b)\w)|that(?=\s*(?:$|[.,!?]))|(?:this|the)\s+call|then)"
)
_NOW: Final = (
    r"straight\s?away|right\s+(?:now|away|this\s+(?:minute|second))|immediately|asap|(?:this|the)\s+very\s+minute|"
    r"this\s+(?:minute|second)|now"
)

_DATE_OR_TIME: Final = re.compile(
    r"\b(?:"
    rf"(?:the\s+)?(?:first|second|third|fourth|last)\s+{_WEEKDAY}\s+of\s+(?:the|next|every)\s+month|a\s+week\s+on\s+{_WEEKDAY}"
    rf"|(?:(?:by|before|from|as\s+of|until|till|til|for|{_CLOCK}|first\s+thing|last\s+thing)\s+)?"
    rf"(?:(?:last|this|next|every|a\s+week\s+on)\s+)?{_DAY}(?:'?s(?=\s+(?:pay|handover|shift|visit)\b)|'s)?"
    rf"(?:\s+and\s+{_WEEKDAY}s?)?(?:\s+{_PART})?"
    rf"(?:,?\s+(?:(?:at|about|by|before|around|from|between)\s+)+{_CLOCK}(?:\s+(?:and|to|till?|-)\s+{_CLOCK})?"
    rf"|\s+{_NUMBER}(?:[:.]\d\d)?\s?(?:am|pm|-\s?\d{{1,2}})"
    rf"|,?\s+(?:before|after|afore)\s+{_MEAL})?"
    rf"|(?:\d{{1,2}}\s?-\s?\d{{1,2}}|{_CLOCK}\s(?:to|till?|until)\s{_CLOCK})(?:\s+(?:on\s+)?{_DAY})?"
    rf"|(?:by|in|at)\s+the\s+(?:end\s+of\s+(?:the\s+|my\s+)?(?:day|week|month|shift)|weekend)|in\s+the\s+{_PART}"
    rf"|(?:this|next|every)\s+(?:{_PART}|week|weekend|month|hour)\b|the\s+next\s+(?:minute|hour)"
    r"|(?:within|inside\s+of)\s+(?:the|an|\w+)\s+(?:half\s+)?(?:hours?|minutes?|days?|weeks?)"
    r"|in\s+(?:about\s+)?\d{1,2}(?=\s*(?:$|[.,!?]))|(?:by|in|for|until|till?)\s+the\s+new\s+year|next\s+time|daily(?!\s+\w)"
    r"|the\s+(?:day|night|evening|morning|week)\s+(?:before|after)|(?:from|as\s+of)\s+now(?:\s+on)?"
    rf"|(?:(?:by|in|until|till?)\s+)?{_MONTH}(?:\s+\d{{1,2}}(?:st|nd|rd|th)?)?"
    rf"|in\s+(?:about\s+)?(?:the\s+next\s+)?(?:an|a|half\s+an|a\s+few|{_NUMBER})\s+(?:mins?|minutes?|hours?|days?|weeks?|fortnight|months?|years?)"
    r"|(?:the\s+)?next\s+(?:two|three|four|few|couple\s+of)\s+(?:days|nights|weeks|weekends)"
    rf"|between\s+{_CLOCK}\s+and\s+{_CLOCK}"
    rf"|(?:by|at|before|after|about|around|until|till?|from|for(?=\s+(?:half|quarter|\w+\s+(?:to|past))\b))\s+(?:about\s+)?{_CLOCK}\b(?!\s*(?:of|mg|ml|per|percent|people|staff|minutes?|mins?|foot|ward))"
    rf"(?:\s+(?:on\s+)?(?:{_DAY}|{_PART}))?"
    rf"|{_CLOCK}\s?(?:am|pm)(?:\s+{_DAY})?|{_NUMBER}\s+o'?\s?clock|\d{{1,2}}[:.]\d{{2}}(?![\d%])(?!\s*(?:mg|ml|kg|kilos?|pounds?|litres?))"
    rf"|\d{{1,2}}ish(?:\s+{_DAY})?"
    rf"|(?:straight\s+)?(?:after|before|at|until|till?|over|through)\s+(?:(?:my|his|her|the|their|your)\s+)?(?:next\s+)?{_MEAL}(?:\s+{_DAY})?"
    r"|(?:on|in)\s+(?:my|his|her|the|their|your)\s+(?:break|way\s+(?:home|in|out|back|over|there)|lunch|next\s+\w+)|on\s+the\s+way"
    r"|(?:before|after)\s+(?:my|his|her|the|their|your)\s+next\s+\w+|for\s+(?:my|his|her|their|your)\s+birthday"
    rf"|straight\s+after(?:\s+this)?|{_NUMBER}\s+(?:mins?|minutes)(?!\s+(?:away|off|from|in\b))"
    rf"|(?:half|quarter|{_NUMBER})\s+past(?:\s+{_NUMBER})?|half\s+{_NUMBER}|at\s+bedtime|teatime|bedtime"
    r"|first\s+thing(?:\s+(?:tomorrow|monday|in\s+the\s+morning))?|last\s+thing"
    rf"|{_NOW}"
    r")(?![\w'])",
    re.IGNORECASE,
)
_RELATIVE_TIME: Final = re.compile(  # on something else that happens
    r"\b(?:(?:as\s+)?soon\s+as\s+[\w' -]{3,40}|(?:the|every)\s+(?:minute|second|moment|time)\s+[\w' -]{3,30}"
    r"|by\s+the\s+time\s+[\w' -]{3,30}"
    r"|(?:when|once)\s+(?:i|i'm|i've|you|you've|he|he's|she|she's|they|they've|we|we're|we've|the)\b[\w' -]{3,25}"
    r"|after\s+(?:i|we|you|he|she|they)(?:'ve|'re|\s+have)?\s+[\w' ]{3,20}"
    r"|(?:un)?til+\s+(?:you|you're|he|she|she's|they|they're|i|i've|we|the)\b[\w' ]{3,20}"
    r"|before\s+(?:i|you|he|she|they|we)(?:'(?:s|m|re|ve|d))?\s+[\w']+(?:\s+[\w']+){0,2}"
    r"|before\s+(?:anything|everything)(?:\s+else)?|before\s+the\s+(?:day|week|month|year)'s\s+out"
    r"|(?:when|once|before|after|(?:un)?til+)\s+[\w']+\s+(?:gets?|comes?|goes|is|are|has|arrives?|rings?|wakes?|leaves?|finish\w*"
    r"|starts?|opens?|closes?|turns?|lands?)\b(?:\s+[\w']+){0,3}"
    r"|(?:when|once)\s+(?:my|your|his|her|their|our|it|it's|that|that's|this|we'll|i'd|i\s+\w+)\b[\w' ]{3,25}"
    r"|(?:before|after|during|until|till?)\s+(?:the|my|your|his|her|their|our|this|that)\s+(?:next\s+|morning\s+|evening\s+)?\w+"
    r"|at\s+(?:the|my|your|his|her|their|our)\s+(?:next\s+\w+|review|meeting|handover|appointment|end|start|same\s+time)"
    r"|later(?:\s+on)?(?:\s+today)?|shortly|in\s+a\s+(?:bit|minute|min|moment|mo|sec|second|while|jiffy)"
    r"|(?:in|over|by)\s+the\s+(?:next\s+)?(?:week|fortnight|month|coming\s+\w+)|over\s+the\s+weekend|end\s+of\s+(?:play|the\s+day|shift|day)|eod"
    r"|as\s+we\s+speak|overnight|first\s+off"
    r"|next(?=\s*(?:$|[.,!?]|and\b|then\b)))(?![\w'])",
    re.IGNORECASE,
)
_AT_ONCE: Final = re.compile(rf"(?:{_NOW})", re.IGNORECASE)
_LONG_HINGE: Final = re.compile(
    r"(?:as\s+)?soon\s+as|by\s+the\s+time|(?:the|every)\s+\w+\s+(?:i|you|he|she|they|we)\b", re.IGNORECASE
)
_RELATIVE_TIME_END: Final = re.compile(
    r"\s+(?:and|but|so|or|then|i'll|i'm|cos|because|he|she|i)(?:\s.*)?$", re.IGNORECASE
)


def find_deadline(text: str) -> tuple[int, int] | None:
    """Character span of the time phrase in `text`, None if none: the first day, clock or 'now'; else 'when …'.

    Phrases that follow each other are one: 'before his shift tonight'.
    """
    spans = find_all_deadlines(text)
    return spans[0] if spans else None


def find_all_deadlines(text: str) -> list[tuple[int, int]]:
    """All time phrases, days and clocks in order, then those that hinge on something else happening.

    A phrase that follows another at once is joined to it, unless the two would run to more than six words.
    """
    dates = find_dates(text)
    relative = []
    for match in _RELATIVE_TIME.finditer(text):
        start, end = match.start(), match.start() + len(_trim_phrase(match.group()))
        if all(end <= other[0] or start >= other[1] for other in dates):
            relative.append((start, end))
        else:  # 'before I go home today': cut where the day begins
            first = min(other[0] for other in dates if other[1] > start)
            end = start + len(_trim_phrase(text[start:first]))
            if first > start and len(text[start:end].split()) > 2:
                relative.append((start, end))
    joined: list[tuple[int, int]] = []
    for span in sorted(dates + relative):
        begin = joined[-1][0] if joined else 0
        follows = bool(joined) and span in dates and not text[joined[-1][1] : span[0]].strip(" ,")
        if follows and not _AT_ONCE.fullmatch(text[slice(*joined[-1])]) and len(text[begin : span[1]].split()) <= 6:
            joined[-1] = (begin, span[1])
        else:
            joined.append(span)
    with_dates = [span for span in joined if any(span[0] <= day[0] and day[1] <= span[1] for day in dates)]
    return with_dates + [span for span in joined if span not in with_dates]


def find_dates(text: str) -> list[tuple[int, int]]:
    """Character spans of days, clocks, meals and 'now' alone, in order."""
    return [match.span() for match in _DATE_OR_TIME.finditer(text)]


def _trim_phrase(phrase: str) -> str:
    words = phrase.split(" ")
    head = " ".join(words[: 5 if _LONG_HINGE.match(phrase) else 3])
    return (head + _RELATIVE_TIME_END.sub("", phrase[len(head) :])).rstrip()
