r"""Text and numbers in LaTeX that plain pdflatex sets: specials escaped, Greek and signs in math mode, powers of ten.

A character for which pdflatex has no glyph is replaced by its code point, as in [U+4E2D].
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import groupby

_SPECIAL = {
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}",
    "[": "{[}", "]": "{]}", "*": "{*}",  # which \\ and \midrule would take for their options
    '"': "''", "–": "--", "—": "---", "‘": "`", "’": "'", "“": "``", "”": "''", "…": r"\dots{}",
    "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}",
    "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}",
}  # fmt: skip
_GREEK = re.findall(
    r"(\S) (\S+)",
    "α alpha β beta γ gamma δ delta ε varepsilon ϵ epsilon ζ zeta η eta θ theta ϑ vartheta ι iota κ kappa λ lambda "
    "μ mu µ mu ν nu ξ xi π pi ρ rho σ sigma ς varsigma τ tau υ upsilon φ varphi ϕ phi χ chi ψ psi ω omega "
    "Γ Gamma Δ Delta Θ Theta Λ Lambda Ξ Xi Π Pi Σ Sigma Υ Upsilon Φ Phi Ψ Psi Ω Omega",
)
_LOOKS_LATIN = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧο", "ABEZHIKMNOPTXo", strict=True))
_MATH = {
    **{letter: rf"\{name}" for letter, name in _GREEK},
    **{letter: rf"\mathrm{{{latin}}}" for letter, latin in _LOOKS_LATIN.items()},
    "±": r"\pm", "∞": r"\infty", "‖": r"\|", "−": "-", "×": r"\times", "≤": r"\leq", "≥": r"\geq", "≈": r"\approx",
    "≠": r"\neq", "→": r"\to", "←": r"\leftarrow", "·": r"\cdot", "∇": r"\nabla", "∂": r"\partial", "√": r"\surd",
    "∑": r"\sum", "∈": r"\in", "∼": r"\sim", "∝": r"\propto", "ℓ": r"\ell", "°": r"{}^{\circ}",
    "<": "<", ">": ">", "|": "|",
}  # fmt: skip
_ACCENTS = dict(zip("\u0300\u0301\u0302\u0303\u0304\u0307\u0308\u030a\u030b\u030c\u0327", "`'^~=.\"rHvc", strict=True))
_FORMULA = re.compile(r"‖([A-Za-z0-9−+·∇₀-₉α-ωΑ-Ω]+)‖|λ(\d+|max|min)(?!\w)|-(?=-)")
_POWER = re.compile(r"e([+-]?)0*(\d+)")


def escape(text: str) -> str:
    """The text as LaTeX; line breaks become spaces, λ1 and ‖w−w₀‖ formulas."""
    indent = {"": "", " ": " "}.get(text[: len(text) - len(text.lstrip())], r"\quad ") if text.strip() else ""
    text = " ".join(unicodedata.normalize("NFC", text).split())
    return indent + "".join(
        f"${_joined(run)}$" if formula else "".join(piece for _, piece in run)
        for formula, run in groupby(_pieces(text), key=lambda piece: piece[0] != "text")
    )


def number(shown: str) -> str:
    """A number as shown on the terminal (`(1.2 ± 0.1)e-07`) as a formula."""
    if shown == "–":
        return "--"

    def power(found: re.Match[str]) -> str:
        sign = "-" if found[1] == "-" else ""
        return rf" \times 10^{{{sign}{found[2]}}}" if int(found[2]) else ""

    return "$" + _POWER.sub(power, shown).replace("±", r"\pm").replace("inf", r"\infty") + "$"


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """LaTeX of what follows one another in a text, each with what it is: text, math, or a sub- or superscript."""
    end = 0
    for found in _FORMULA.finditer(text):
        yield from _characters(text[end : found.start()])
        if found[1]:
            inside = ((kind if kind != "text" else "math", piece) for kind, piece in _characters(found[1]))
            yield "math", rf"\|{_joined(inside)}\|"
        elif found[2]:
            yield "math", rf"\lambda_{{{found[2] if found[2].isdigit() else chr(92) + found[2]}}}"
        else:
            yield "text", "-{}"  # two hyphens would become a dash
        end = found.end()
    yield from _characters(text[end:])


def _characters(text: str) -> Iterator[tuple[str, str]]:
    for script, run in groupby(text, key=lambda character: _script(character)[0]):
        if script:
            yield script, f"{script}{{{_joined(('math', _script(character)[1]) for character in run)}}}"
        else:
            yield from (("math", _MATH[c]) if c in _MATH else ("text", _plain(c)) for c in run)


def _script(character: str) -> tuple[str, str]:
    """("_", "1") for ₁, ("^", "2") for ², and empty texts for what is no such thing that math mode has."""
    tag, _, codes = unicodedata.decomposition(character).partition(" ")
    sign = {"<sub>": "_", "<super>": "^"}.get(tag, "")
    base = "".join(chr(int(code, 16)) for code in codes.split()) if sign else ""
    if sign and all(c in _MATH or (c.isascii() and (c.isalnum() or c in "+-=()")) for c in base):
        return sign, "".join(_MATH.get(c, c) for c in base)
    return "", ""


def _plain(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if character.isascii() and character.isprintable():
        return character
    letter, *marks = unicodedata.normalize("NFD", character)
    if letter.isascii() and letter.isalpha() and len(marks) == 1 and marks[0] in _ACCENTS:
        return rf"\{_ACCENTS[marks[0]]}{{{letter}}}"
    return f"{{[}}U+{ord(character):04X}{{]}}"


def _joined(pieces: Iterable[tuple[str, str]]) -> str:
    """One formula: a space ends a command before a letter, and braces part two scripts."""
    written, last = "", ""
    for kind, piece in pieces:
        if re.search(r"\\[A-Za-z]+$", written) and piece[0].isalpha():
            written += " "
        if kind in "_^" and last in ("_", "^"):
            written += "{}"
        written, last = written + piece, kind
    return written
