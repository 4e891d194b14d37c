"""Words of belief and origin that the encoder reads alike: which of them a person is called tells nothing of harm.

Each group's words get one meaning, the mean of theirs (`models/text/turn_encoder.level`). That somebody is named by
their faith is still read, so that ill-treatment because of it is too, but not which faith. Colours ('black', 'white')
are left out, since bruises have them, and so are slurs: what those say, they must go on saying.
"""

import re
from typing import Final

_FAITHS: Final = """christian muslim hindu sikh jewish catholic buddhist protestant methodist anglican quaker islamic
    baptist"""
_ORIGINS: Final = """asian african caribbean nigerian ghanaian kenyan somali zimbabwean jamaican indian pakistani
    bangladeshi chinese filipino filipina polish romanian hungarian bulgarian lithuanian latvian portuguese spanish
    italian turkish arab albanian ukrainian russian german french greek vietnamese thai nepalese"""
LEVELLED: Final = tuple(tuple(re.split(r"\s+", words)) for words in (_FAITHS, _ORIGINS))
