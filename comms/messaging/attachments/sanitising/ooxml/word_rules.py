"""The elements and attributes that are kept in a Word document. Used only in the confined child.

They cover text, formatting, tables, lists, notes, comments and tracked changes. None of them can name a file, an
address or a program. `word_documents.py` handles those that can: fields, links, pictures, embedded objects.
"""

from typing import Final

from comms.messaging.attachments.sanitising.xml_parts import name, names

_BODY: Final = """document body p r t delText tab br cr noBreakHyphen softHyphen sym hdr ftr
    footnotes footnote endnotes endnote comments comment footnoteReference endnoteReference commentReference
    footnoteRef endnoteRef annotationRef separator continuationSeparator
    commentRangeStart commentRangeEnd bookmarkStart bookmarkEnd ins del moveFrom moveTo"""
_OF_PARAGRAPHS: Final = """pPr pStyle keepNext keepLines pageBreakBefore framePr widowControl numPr ilvl numId
    suppressLineNumbers pBdr top left bottom right between bar start end shd tabs suppressAutoHyphens kinsoku wordWrap
    overflowPunct topLinePunct autoSpaceDE autoSpaceDN bidi adjustRightInd snapToGrid spacing ind contextualSpacing
    mirrorIndents suppressOverlap jc textDirection textAlignment outlineLvl cnfStyle"""
_OF_RUNS: Final = """rPr rStyle rFonts b bCs i iCs caps smallCaps strike dstrike outline shadow emboss imprint noProof
    color w kern position sz szCs highlight u bdr fitText vertAlign rtl cs em lang"""
_OF_TABLES: Final = """tbl tblPr tblGrid gridCol tr trPr tc tcPr tblStyle tblpPr tblOverlap bidiVisual
    tblStyleRowBandSize tblStyleColBandSize tblW tblCellSpacing tblInd tblBorders insideH insideV tblLayout tblCellMar
    tblLook tblPrEx trHeight tblHeader cantSplit gridBefore gridAfter wBefore wAfter tcW gridSpan hMerge vMerge
    tcBorders tl2br tr2bl noWrap tcMar tcFitText vAlign hideMark"""
_OF_SECTIONS: Final = """sectPr pgSz pgMar pgBorders lnNumType pgNumType cols col noEndnote titlePg rtlGutter docGrid
    type footnotePr endnotePr numFmt numStart numRestart pos"""
_OF_STYLES: Final = """styles docDefaults rPrDefault pPrDefault style name aliases basedOn next link uiPriority qFormat
    tblStylePr"""
_OF_LISTS: Final = """numbering abstractNum nsid multiLevelType tmpl styleLink numStyleLink lvl lvlRestart isLgl suff
    lvlText lvlJc num abstractNumId lvlOverride startOverride legacy"""
_ATTRIBUTES: Final = names("w", """val type space color sz themeColor themeShade themeTint fill frame shadow
    ascii hAnsi cs eastAsia hint left right start end firstLine hanging firstLineChars hangingChars leftChars rightChars
    before after line lineRule beforeLines afterLines beforeAutospacing afterAutospacing pos leader w h orient code top
    bottom header footer gutter num equalWidth sep charSpace linePitch id author date initials name colFirst colLast
    customMarkFollows font char clear bidi hSpace vSpace wrap hAnchor vAnchor x xAlign y yAlign hRule lines anchorLock
    dropCap leftFromText rightFromText topFromText bottomFromText horzAnchor vertAnchor tblpX tblpXSpec tblpY tblpYSpec
    hRule fmt chapStyle chapSep countBy distance restart offsetFrom display zOrder styleId default customStyle
    abstractNumId numId ilvl tplc tentative firstRow lastRow firstColumn lastColumn noHBand noVBand""") | {
    "{http://www.w3.org/XML/1998/namespace}space"
}  # fmt: skip

KEPT: Final = dict.fromkeys(
    names("w", " ".join((_BODY, _OF_PARAGRAPHS, _OF_RUNS, _OF_TABLES, _OF_SECTIONS, _OF_STYLES, _OF_LISTS))),
    _ATTRIBUTES,
)
# Wrappers around text that is kept: content controls, tags of other programs, ruby, text direction.
UNWRAPPED: Final = names("w", "sdt sdtContent smartTag customXml ruby rubyBase rt dir bdo txbxContent")
WORDED: Final = names("w", "t delText")
BLOCKS: Final = names("w", "p tbl")

# A field that a program calculates only from the document itself and that names nothing else.
HARMLESS_FIELD: Final = (
    r"(?i)\s*(PAGE|NUMPAGES|SECTION|SECTIONPAGES)(\s+\\\*\s+(MERGEFORMAT|Arabic|roman|alphabetic|CHARFORMAT))*\s*"
)

RUN, TEXT, PARAGRAPH = name("w", "r"), name("w", "t"), name("w", "p")
