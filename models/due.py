"""When something will be done, as the speaker said it: the time phrases that `models/actions` looks for.

British care talk, typed or recognised: 'by four', 'first thing', 'tmrw', 'after the 999 call', 'within the hour'.
"""

import re
from typing import Final

_DAY: Final = (
    r"(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday|mon|tues?|weds?|thurs?|fri|today|tonight|"
    r"tomorrow|tmrw|tomoro|tomoz|2moro|the\s+morn|the\s+morra)"
)
_NUMBER: Final = r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|\d{1,2})"
_CLOCK: Final = (
    rf"(?:(?:half|quarter|ten|five|twenty|\d{{1,2}})\s+(?:past|to)\s+{_NUMBER}|{_NUMBER}\s+o'?clock|"
    rf"\d{{1,2}}(?:[:.]\d{{2}})?\s?(?:am|pm)?|half\s+{_NUMBER}|{_NUMBER}|noon|midnight|midday)"
)
_PART: Final = r"(?:morning|afternoon|evening|night|dinner\s?time|teatime|lunchtime)"
_MEAL: Final = r"(?:breakfast|lunch|dinner\s?time|dinner|tea|supper|handover|break|rounds|shift|work|this|that)"

DUE: Final = re.compile(
    r"\b(?:"
    rf"(?:(?:by|before|from|until|till|til|{_CLOCK})\s+)?(?:(?:last|this|next|a\s+week\s+on)\s+)?{_DAY}(?:\s+{_PART})?"
    rf"(?:,?\s+(?:(?:at|about|by|before|around|between)\s+)+{_CLOCK}(?:\s+and\s+{_CLOCK})?"
    rf"|,?\s+(?:before|after|afore)\s+{_MEAL})?"
    rf"|(?:by|in|at)\s+the\s+(?:end\s+of\s+(?:the\s+)?(?:day|week|month|shift)|weekend)|in\s+the\s+{_PART}"
    rf"|(?:this|next|every)\s+(?:{_PART}|week|weekend|minute|second|month|hour)"
    r"|within\s+(?:the|an|\w+)\s+(?:hours?|minutes?|days?)"
    rf"|in\s+(?:the\s+next\s+)?(?:an|a|half\s+an|{_NUMBER})\s+(?:mins?|minutes?|hours?|days?|weeks?)"
    rf"|(?:by|at|before|after|about|around)\s+(?:about\s+)?{_CLOCK}\b(?!\s*(?:of|mg|ml|per))(?:\s+{_DAY})?"
    rf"|(?:straight\s+)?(?:after|before|at)\s+(?:(?:my|his|her|the|their)\s+)?{_MEAL}"
    r"|(?:as\s+)?soon\s+as\s+[\w' ]{3,30}|the\s+(?:minute|second)\s+[\w' ]{3,30}"
    r"|(?:when|once)\s+(?:i|i'm|you|he's|she's|they|we|the)\b[\w' ]{3,25}"
    r"|(?:un)?til+\s+(?:you|he|she|they|i|the)\b[\w' ]{3,20}"
    r"|before\s+(?:i|you|he|she|they|we)\s+[\w']+(?:\s+[\w']+){0,2}"
    r"|(?:on|in)\s+(?:my|his|her|the|their)\s+(?:break|way\s+home|lunch)|straight\s+after(?:\s+this)?"
    rf"|{_NUMBER}\s+(?:mins?|minutes)|(?:half|quarter|{_NUMBER})\s+past(?:\s+{_NUMBER})?|at\s+bedtime"
    r"|first\s+thing(?:\s+(?:tomorrow|monday|in\s+the\s+morning))?|last\s+thing"
    r"|straight\s?away|right\s+(?:now|away)|immediately|asap|now"
    r")(?![\w'])",
    re.IGNORECASE,
)


def find_due(text: str) -> tuple[int, int] | None:
    """Character span of the time phrase in `text`: a longer one before a shorter, else the first; None if none."""
    spans = [match.span() for match in DUE.finditer(text)]
    return max(spans, key=lambda span: (min(span[1] - span[0], 12), -span[0]), default=None)
