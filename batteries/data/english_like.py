"""Text that looks like English to a patch of bytes: sentences of common words, drawn independently, without a meaning.

The words are a list of our own, in about the order of their use, and a word of rank r is drawn in proportion to
1 / (r + 2.7), Zipf's law in Mandelbrot's form. Letters, lengths of words, blanks and stops are about those of English prose;
grammar and order of words are not. A text of an author would have these too, but 64 x 64 pixels of three channels are
12,288 bytes, and no text of that length several times over is ours to ship; those that come with Python differ between its
versions.
"""

from __future__ import annotations

import torch
from torch import Generator

from batteries.engine.torch_settings import PINNED, neutral

LIST = """
    the of and to in that it is was for with as on at by this not are from or which an be one had have but were their all
    they when there would what so out if into has more some could them other than then its only time two may can over also new
    after first most made before years through where much way well down should because each people same work still place such
    another great long under small world again while house day life water without might found between hand old thought part
    never always every against light side being called left near country three night often until head began both along
    morning state kind though large word line point second room since better face system story door white rather earth
    number enough river letter voice paper whole street summer family surface window matter early island answer music
    already garden picture winter simple perhaps mountain language distance history measure evening ground century
"""
WORDS = tuple(LIST.split())
SHIFT = 2.7  # of ranks, in Mandelbrot's form of Zipf's law; without it "the" would be every sixth word
SENTENCE = (4, 19)  # words of a sentence: 4 to 18
COMMA = 0.08  # share of words within a sentence that a comma follows
LINE = 76  # letters after which a line ends at the next blank
DRAWN = 1024  # words drawn at a time


@neutral()
def english_like(length: int, generator: Generator) -> bytes:
    r"""Write so many bytes of text in ASCII: printable letters and line ends.

    >>> from torch import Generator
    >>> english_like(30, Generator().manual_seed(0)) == english_like(40, Generator().manual_seed(0))[:30]
    True
    """
    weights = 1 / (torch.arange(1, len(WORDS) + 1, **PINNED) + SHIFT)
    lines: list[str] = [""]
    written, left = 0, 0  # letters of full lines; words left of the sentence
    while written + len(lines[-1]) < length:
        chosen = torch.multinomial(weights, DRAWN, replacement=True, generator=generator).tolist()
        commas = (torch.rand(DRAWN, generator=generator, **PINNED) < COMMA).tolist()
        sentences = iter(torch.randint(*SENTENCE, (DRAWN,), generator=generator).tolist())
        for index, comma in zip(chosen, commas, strict=True):
            word = WORDS[index]
            if left == 0:
                word, left = word.capitalize(), next(sentences)
            left -= 1
            lines[-1] += word + ("." if left == 0 else "," if comma else "")
            if len(lines[-1]) >= LINE:
                written += len(lines[-1]) + 1
                lines.append("")
            else:
                lines[-1] += " "
    return "\n".join(lines)[:length].encode("ascii")
