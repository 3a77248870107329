"""Use an exported model on photos: are two faces one person's, who is it, where are its landmarks, its embedding.

facedistill predict model=exports/NAME photo.jpg [photo.jpg|FOLDER ...] [out=FILE.png] [html=FILE.html]

  facedistill predict model=exports/student a.jpg b.jpg                  the same person, or different people?
  facedistill predict model=exports/student photos/ out=similar.png      who is similar to whom, as a matrix
  facedistill predict model=exports/student photos/ embed=faces.npz      embeddings, for a search of your own

The face in a photo is found, and cut as the model was trained to see it; of several the largest is taken. framed=true
takes photos that are cut and aligned already. What the export's model gives decides what is printed: for two faces a
verdict, for more a matrix of similarities; the three likeliest names of a face; or its five landmarks in pixels.

out= draws that, and html= writes a page that needs no network. embed= (.npz, or .parquet with pyarrow) streams any
number of photos. The verdict is by the export's threshold at one false accept in 1,000 pairs of two people; far=1e-4
chooses another of its thresholds, threshold=0.3 names one. format= is onnx where the export has it, or onnx-int8;
threads=1 cores work. Words without = are photos, or folders of photos.

Exit status 0: answered; 2: it can't be, or one of the two photos to compare shows no face. In folders, photos without
a face are left out and counted.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from facedistill.cli import run_command, split_words
from facedistill.errors import ConfigError, DataError
from facedistill.predict.asked import OWN, Asked, Listed, exported_in


def main(words: Sequence[str]) -> int:
    return run_command(words, __doc__, _predict, bare=False)


def _predict(words: list[str]) -> int:
    photos = [word for word in words if _exists(word)]
    own, others = split_words([word for word in words if not _exists(word)], OWN)
    for word in others:
        if "=" in word:
            raise ConfigError(f"{word}: there is no such word, and no such file: words are {', '.join(OWN)}")
        raise DataError(f"{word} does not exist: name a photo, or a folder of photos")
    asked = Asked.of(own, photos)
    exported = exported_in(asked.model)
    asked.check(exported.kind)
    from facedistill.predict.work import Work  # numpy and Pillow, late: a refusal is quick

    return Work.of(asked, exported, Listed.of(photos)).do()


def _exists(word: str) -> bool:
    """Whether there is such a file or folder; a word that is too long for a path names none."""
    try:
        return bool(word) and Path(word).exists()
    except (OSError, ValueError):
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
