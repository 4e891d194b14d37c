"""Words of belief and origin for which the encoder has one meaning: such a word says nothing about harm.

Each group's words get one embedding, the mean of theirs (`models/text/turn_encoder.level`). The encoder still sees that
somebody is named by their faith, so that ill-treatment because of faith is found, but not by which faith. Colours
('black', 'white') are left out, because bruises have colours. Slurs are left out, because their meaning must stay.
"""

import re
from typing import Final

_FAITHS: Final = """christian muslim hindu sikh jewish catholic buddhist protestant methodist anglican quaker islamic
    baptist"""
_ORIGINS: Final = """asian african caribbean nigerian ghanaian kenyan somali zimbabwean jamaican indian pakistani
    bangladeshi chinese filipino filipina polish romanian hungarian bulgarian lithuanian latvian portuguese spanish
    italian turkish arab albanian ukrainian russian german french greek vietnamese thai nepalese"""
LEVELLED: Final = tuple(tuple(re.split(r"\s+", words)) for words in (_FAITHS, _ORIGINS))
