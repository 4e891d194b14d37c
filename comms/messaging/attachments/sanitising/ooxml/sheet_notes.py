"""Draws the boxes of a sheet's notes: Excel accepts notes only with a drawing of their boxes. Runs only in the confined
child.
"""

import re
from typing import Final

from comms.messaging.attachments.sanitising.xml_parts import Element, name

_CELL: Final = re.compile(r"([A-Z]{1,3})([1-9][0-9]{0,6})")
_BEGIN: Final = (
    '<xml xmlns:v="urn:schemas-microsoft-com:vml" xmlns:o="urn:schemas-microsoft-com:office:office" '
    'xmlns:x="urn:schemas-microsoft-com:office:excel"><v:shapetype id="note" coordsize="21600,21600" o:spt="202" '
    'path="m,l,21600r21600,l21600,xe"><v:path gradientshapeok="t" o:connecttype="rect"/></v:shapetype>'
)
_BOX: Final = (
    '<v:shape id="note{number}" type="#note" style="position:absolute;width:144pt;height:72pt;visibility:hidden" '
    'fillcolor="#ffffe1"><v:textbox/><x:ClientData ObjectType="Note"><x:AutoFill>False</x:AutoFill>'
    "<x:Row>{row}</x:Row><x:Column>{column}</x:Column></x:ClientData></v:shape>"
)


def boxes_of_notes(notes: Element) -> bytes:
    """Returns a VML drawing with a box for each note that names a cell."""
    boxes = []
    for number, note in enumerate(notes.iter(name("x", "comment")), start=1):
        if (cell := _CELL.fullmatch(note.get("ref", ""))) is not None:
            column = 0
            for letter in cell[1]:
                column = column * 26 + ord(letter) - ord("A") + 1
            boxes.append(_BOX.format(number=number, row=int(cell[2]) - 1, column=column - 1))
    return f"{_BEGIN}{''.join(boxes)}</xml>".encode()
