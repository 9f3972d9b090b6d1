"""Text from studies as LaTeX and as Markdown: whatever it holds, it is printed and does nothing else."""

from __future__ import annotations

import re
import unicodedata

# Defined by every LaTeX file of ours: a character that LaTeX has no command for, as itself where the engine reads
# Unicode (LuaLaTeX, XeLaTeX; the font must have it), else as its number.
LATEX_HEAD = r"\providecommand{\rlchar}[2]{\ifdefined\Umathcode #2\else [#1]\fi}"

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''{}", "'": "'{}", "`": r"\textasciigrave{}", "[": "{[}", "]": "{]}",
    "\u00a0": "~", "\u202f": r"\,", "\u2009": r"\,", "\u2026": r"\ldots{}", "\u2013": "--{}", "\u2014": "---{}",
    "\u2018": "`{}", "\u2019": "'{}", "\u201c": "``{}", "\u201d": "''{}", "\u2212": "$-$", "\u00d7": r"$\times$",
    "\u00b1": r"$\pm$", "\u2264": r"$\leq$", "\u2265": r"$\geq$", "\u2260": r"$\neq$", "\u2248": r"$\approx$",
    "\u2192": r"$\rightarrow$", "\u00b7": r"$\cdot$", "\u00b0": r"$^{\circ}$", "\u00b9": "$^{1}$", "\u00b2": "$^{2}$",
    "\u00b3": "$^{3}$", "\u221e": r"$\infty$", "\u221a": r"$\surd$", "\u00b5": r"$\mu$", "\u2126": r"$\Omega$",
    "\u00df": r"\ss{}", "\u00e6": r"\ae{}", "\u00c6": r"\AE{}", "\u0153": r"\oe{}", "\u0152": r"\OE{}",
    "\u00f8": r"\o{}", "\u00d8": r"\O{}", "\u0142": r"\l{}", "\u0141": r"\L{}", "\u0131": r"\i{}",
    "\u00a3": r"\pounds{}", "\u00a9": r"\copyright{}",
}  # fmt: skip
_GREEK = [
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
    "-", "pi", "rho", "-", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
]  # fmt: skip
_LATEX |= {chr(0x3B1 + i): f"$\\{name}$" for i, name in enumerate(_GREEK) if name != "-"}
_CAPITALS = {"Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega"}
_LATEX |= {chr(0x391 + i): f"$\\{name.title()}$" for i, name in enumerate(_GREEK) if name.title() in _CAPITALS}
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u ", "\u0307": ".",
    "\u0308": '"', "\u030a": "r ", "\u030b": "H ", "\u030c": "v ", "\u0327": "c ", "\u0328": "k ",
}  # fmt: skip
_NO_OGONEK = {"\u0328"}  # OT1, LaTeX's default encoding, lacks it
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~^$&@!])")


def latex(text: str) -> str:
    """`text` as LaTeX prints it, with pdfLaTeX in its default encoding too. Needs `LATEX_HEAD` before it."""
    text = unicodedata.normalize("NFC", text)
    said = "".join(map(_letter, text))
    return re.sub(r"-(?=-)(?<!\$-)", "-{}", said) if "--" in text else said


def _letter(letter: str) -> str:
    if letter in _LATEX:
        return _LATEX[letter]
    if " " <= letter <= "~":
        return letter
    if letter.isspace():
        return " "
    base, *marks = list(unicodedata.normalize("NFD", letter))
    if len(marks) == 1 and marks[0] in _ACCENTS and marks[0] not in _NO_OGONEK and base.isascii() and base.isalpha():
        return f"\\{_ACCENTS[marks[0]]}{{{base}}}"
    number = f"U+{ord(letter):04X}"
    shown = letter if letter.isprintable() else ""  # no control, surrogate or direction of writing
    return f"\\rlchar{{{number}}}{{{shown}}}"


def markdown(text: str) -> str:
    """`text` within a line or a cell of Markdown."""
    printable = "".join(
        letter if letter.isprintable() else " " if letter.isspace() else f"[U+{ord(letter):04X}]" for letter in text
    )
    return _MARKDOWN.sub(r"\\\1", printable)
