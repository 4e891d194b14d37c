"""The objects that a PDF page may contain, and the keys of each that are copied. Used only in the confined child.

There is no rule for anything that acts, fetches, embeds files or identifies its author: actions, annotations, scripts,
forms, files, external streams, reference XObjects, PostScript XObjects, metadata, private data of programs.
"""

from typing import Any, Final

from comms.messaging.attachments.sanitising.pdf.copying import (
    PdfCopier,
    Rule,
    array,
    boolean,
    dictionary,
    either,
    name,
    named,
    number,
    one_of,
    picture_stream,
    row,
    stream,
    string,
)
from comms.messaging.attachments.sanitising.refusals import AttachmentRefused

_MAX_POINTS: Final = 50_000_000  # pixels of a picture, as in `comms/messaging/attachments/sanitising/images.py`


def _resources(copier: PdfCopier, found: Any) -> Any:
    return RESOURCES(copier, found)


def _colours(copier: PdfCopier, found: Any) -> Any:
    return COLOURS(copier, found)


def _function(copier: PdfCopier, found: Any) -> Any:
    return FUNCTION(copier, found)


def _form(copier: PdfCopier, found: Any) -> Any:
    return FORM(copier, found)


def _font(copier: PdfCopier, found: Any) -> Any:
    return FONT(copier, found)


def _picture(copier: PdfCopier, found: Any) -> Any:
    return PICTURE(copier, found)


NUMBERS: Final = array(number)
BOX: Final = array(number, 4)
MATRIX: Final = array(number, 6)
FUNCTION: Final = either(
    stream({
        "/FunctionType": number, "/Domain": NUMBERS, "/Range": NUMBERS, "/Size": NUMBERS, "/BitsPerSample": number,
        "/Order": number, "/Encode": NUMBERS, "/Decode": NUMBERS,
    }),
    dictionary({
        "/FunctionType": number, "/Domain": NUMBERS, "/Range": NUMBERS, "/C0": NUMBERS, "/C1": NUMBERS, "/N": number,
        "/Functions": array(_function), "/Bounds": NUMBERS, "/Encode": NUMBERS,
    }, needs=frozenset({"/FunctionType"})),
)  # fmt: skip
FUNCTIONS: Final = either(FUNCTION, array(_function))

# --- colours ---------------------------------------------------------------------------------------------------------

_PROFILE: Final = stream({"/N": number, "/Alternate": _colours, "/Range": NUMBERS})
_CALIBRATED: Final = dictionary({
    "/WhitePoint": NUMBERS, "/BlackPoint": NUMBERS, "/Gamma": either(number, NUMBERS), "/Matrix": NUMBERS,
    "/Range": NUMBERS,
})  # fmt: skip
COLOURS: Final = either(
    name,
    row(one_of("/ICCBased"), _PROFILE),
    row(one_of("/Indexed"), _colours, number, either(string, stream({}))),
    row(one_of("/Separation"), name, _colours, FUNCTION),
    row(one_of("/DeviceN"), array(name), _colours, FUNCTION),
    row(one_of("/CalRGB", "/CalGray", "/Lab"), _CALIBRATED),
    row(one_of("/Pattern"), _colours),
    row(one_of("/Pattern", "/DeviceGray", "/DeviceRGB", "/DeviceCMYK")),
)

# --- pictures and forms ----------------------------------------------------------------------------------------------


def _is_picture(found: Any) -> bool:
    if found.get("/Subtype") != "/Image":
        return False
    sides = [side for key in ("/Width", "/Height") if isinstance(side := found.get(key), int)]
    if len(sides) == 2 and sides[0] * sides[1] > _MAX_POINTS:
        raise AttachmentRefused("attachment-expands")
    return len(sides) == 2 and min(sides) > 0


_PARAMETERS: Final = dictionary({
    "/Predictor": number, "/Colors": number, "/BitsPerComponent": number, "/Columns": number, "/EarlyChange": number,
    "/K": number, "/EndOfLine": boolean, "/EncodedByteAlign": boolean, "/Rows": number, "/EndOfBlock": boolean,
    "/BlackIs1": boolean, "/DamagedRowsBeforeError": number, "/ColorTransform": number, "/JBIG2Globals": stream({}),
})  # fmt: skip
PICTURE: Final = picture_stream(
    {
        "/Type": one_of("/XObject"), "/Subtype": one_of("/Image"), "/Width": number, "/Height": number,
        "/ColorSpace": COLOURS, "/BitsPerComponent": number, "/Intent": name, "/ImageMask": boolean,
        "/Mask": either(NUMBERS, _picture), "/Decode": NUMBERS, "/Interpolate": boolean, "/SMask": _picture,
        "/SMaskInData": number, "/Matte": NUMBERS,
    },
    _PARAMETERS,
    _is_picture,
)  # fmt: skip
GROUP: Final = dictionary({"/Type": name, "/S": one_of("/Transparency"), "/CS": COLOURS, "/I": boolean, "/K": boolean})
FORM: Final = stream(
    {
        "/Type": one_of("/XObject"), "/Subtype": one_of("/Form"), "/FormType": number, "/BBox": BOX, "/Matrix": MATRIX,
        "/Resources": _resources, "/Group": GROUP,
    },
    lambda found: found.get("/Subtype") == "/Form" and "/Ref" not in found and "/PS" not in found,
)  # fmt: skip

# --- patterns and graphics state -------------------------------------------------------------------------------------

_SHADING_KEYS: Final[dict[str, Rule]] = {
    "/ShadingType": number, "/ColorSpace": COLOURS, "/Background": NUMBERS, "/BBox": BOX, "/AntiAlias": boolean,
    "/Domain": NUMBERS, "/Matrix": MATRIX, "/Function": FUNCTIONS, "/Coords": NUMBERS, "/Extend": array(boolean),
    "/BitsPerCoordinate": number, "/BitsPerComponent": number, "/BitsPerFlag": number, "/Decode": NUMBERS,
    "/VerticesPerRow": number,
}  # fmt: skip
SHADING: Final = either(stream(_SHADING_KEYS), dictionary(_SHADING_KEYS))
STATE: Final = dictionary({
    "/Type": name, "/LW": number, "/LC": number, "/LJ": number, "/ML": number, "/D": row(NUMBERS, number), "/RI": name,
    "/OP": boolean, "/op": boolean, "/OPM": number, "/Font": row(_font, number), "/FL": number, "/SM": number,
    "/SA": boolean, "/BM": either(name, array(name)), "/CA": number, "/ca": number, "/AIS": boolean, "/TK": boolean,
    "/SMask": either(one_of("/None"), dictionary({
        "/Type": name, "/S": one_of("/Alpha", "/Luminosity"), "/G": _form, "/BC": NUMBERS,
        "/TR": either(one_of("/Identity"), FUNCTION),
    })),
})  # fmt: skip
PATTERN: Final = either(
    stream({
        "/Type": name, "/PatternType": number, "/PaintType": number, "/TilingType": number, "/BBox": BOX,
        "/XStep": number, "/YStep": number, "/Resources": _resources, "/Matrix": MATRIX,
    }),
    dictionary({
        "/Type": name, "/PatternType": number, "/Shading": SHADING, "/Matrix": MATRIX, "/ExtGState": STATE,
    }, needs=frozenset({"/PatternType"})),
)  # fmt: skip

# --- fonts -----------------------------------------------------------------------------------------------------------

_FONT_FILE: Final = stream({"/Length1": number, "/Length2": number, "/Length3": number, "/Subtype": name})
_ABOUT_FONT: Final = dictionary({
    "/Type": name, "/FontName": name, "/FontFamily": string, "/FontStretch": name, "/FontWeight": number,
    "/Flags": number, "/FontBBox": BOX, "/ItalicAngle": number, "/Ascent": number, "/Descent": number,
    "/Leading": number, "/CapHeight": number, "/XHeight": number, "/StemV": number, "/StemH": number,
    "/AvgWidth": number, "/MaxWidth": number, "/MissingWidth": number, "/CharSet": string, "/CIDSet": stream({}),
    "/FontFile": _FONT_FILE, "/FontFile2": _FONT_FILE, "/FontFile3": _FONT_FILE,
})  # fmt: skip
_LETTERS: Final = either(
    name,
    dictionary({"/Type": name, "/BaseEncoding": name, "/Differences": array(either(number, name))}),
    stream({"/Type": name, "/CMapName": name, "/WMode": number, "/UseCMap": name,
            "/CIDSystemInfo": dictionary({"/Registry": string, "/Ordering": string, "/Supplement": number})}),
)  # fmt: skip
_FONT_KEYS: Final[dict[str, Rule]] = {
    "/Type": one_of("/Font"), "/BaseFont": name, "/Name": name, "/FirstChar": number, "/LastChar": number,
    "/Widths": NUMBERS, "/FontDescriptor": _ABOUT_FONT, "/Encoding": _LETTERS, "/ToUnicode": either(stream({}), name),
}  # fmt: skip
_OF_CIDS: Final = dictionary(_FONT_KEYS | {
    "/Subtype": one_of("/CIDFontType0", "/CIDFontType2"), "/DW": number, "/DW2": NUMBERS,
    "/CIDSystemInfo": dictionary({"/Registry": string, "/Ordering": string, "/Supplement": number}),
    "/W": array(either(number, NUMBERS)), "/W2": array(either(number, NUMBERS)),
    "/CIDToGIDMap": either(stream({}), one_of("/Identity")),
}, needs=frozenset({"/Subtype"}))  # fmt: skip
FONT: Final = dictionary(_FONT_KEYS | {
    "/Subtype": one_of("/Type0", "/Type1", "/MMType1", "/TrueType", "/Type3"), "/DescendantFonts": array(_OF_CIDS, 1),
    "/FontBBox": BOX, "/FontMatrix": MATRIX, "/CharProcs": named(stream({})), "/Resources": _resources,
}, needs=frozenset({"/Subtype"}))  # fmt: skip

# --- pages -----------------------------------------------------------------------------------------------------------

RESOURCES: Final = dictionary({
    "/Font": named(FONT), "/XObject": named(either(PICTURE, FORM)), "/ExtGState": named(STATE),
    "/ColorSpace": named(COLOURS), "/Pattern": named(PATTERN), "/Shading": named(SHADING),
})  # fmt: skip
# The keys of the page itself, and those that it may inherit from the page tree.
OWN: Final[dict[str, Rule]] = {"/UserUnit": number, "/Group": GROUP}
INHERITED: Final[dict[str, Rule]] = {
    "/Resources": RESOURCES, "/MediaBox": BOX, "/CropBox": BOX, "/Rotate": number,
}  # fmt: skip
CONTENT: Final = stream({})
