"""What is done for each kind of model: printed, drawn, written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from facedistill.errors import ConfigError, DataError
from facedistill.predict.answers import (
    Remarks,
    Threshold,
    answered,
    landmarks_in_photo,
    landmarks_line,
    likely_names,
    names_line,
    no_threshold,
    similarities,
)
from facedistill.predict.asked import Asked, Listed
from facedistill.predict.faces import Face, Points, check_framing
from facedistill.predict.session import Session
from facedistill.runs.exported import Exported
from facedistill.system.terminal import Output, say
from facedistill.system.text import shown

MOST_SHOWN = 60  # photos in a picture or on a page
MOST_COMPARED, MOST_IN_MATRIX = 1000, 12  # photos with each other; printed as a matrix


@dataclass
class Work:
    asked: Asked
    exported: Exported
    photos: Listed
    threshold: Threshold | None
    names: list[str]
    session: Session
    remarks: Remarks = field(default_factory=Remarks)

    @classmethod
    def of(cls, asked: Asked, exported: Exported, photos: Listed) -> Work:
        """Raises ``FacedistillError`` for all that can be known before a photo is opened."""
        count = len(photos.paths)
        if (asked.out or asked.html) and count > MOST_SHOWN:
            raise ConfigError(f"out= and html= show at most {MOST_SHOWN} photos, and these are {count:,}: name fewer")
        if exported.kind == "embedding" and not asked.embed:
            if count == 1 and not photos.has_folders:
                raise ConfigError(
                    f"{photos.paths[0]} is one photo: name a second to compare it with, or embed=FILE.npz for its "
                    "embedding"
                )
            if count > MOST_COMPARED:
                raise ConfigError(
                    f"at most {MOST_COMPARED:,} photos are compared, and these are {count:,}: embed=FILE.npz"
                )
        if asked.embed and (asked.out or asked.html):
            raise ConfigError("embed= keeps no photos to show: leave out= and html= out, or embed=")
        if asked.embed:
            from facedistill.predict.embeddings import check_writer

            check_writer(asked.embed)
        names = exported.names(asked.model) if exported.kind == "logits" else []
        check_framing(exported, asked.framed)
        session = Session.open(asked.model, exported, asked.format, asked.threads)
        threshold = None
        if exported.kind == "embedding":
            threshold = Threshold.of_export(exported.by(session.model), asked.threshold, asked.far)
        return cls(asked, exported, photos, threshold, names, session)

    def do(self) -> int:
        for note in self.photos.notes:
            say(f"facedistill: {note}")
        try:
            if self.asked.embed:
                self._embed()
            elif self.exported.kind == "embedding":
                self._compare()
            else:
                self._answer_each()
        finally:
            for line in self.remarks.summary():
                say(f"facedistill: {line}")
        return 0

    def _answered(self) -> Iterator[tuple[list[Face], NDArray[np.float32]]]:
        compares = self.exported.kind == "embedding" and not self.asked.embed
        needs_all = not self.photos.has_folders and len(self.photos.paths) <= (2 if compares else 1)
        paths, asked = self.photos.paths, self.asked
        return answered(paths, self.session, asked.framed, needs_all, asked.threads, self.remarks)

    def _embed(self) -> None:
        from facedistill.predict.embeddings import write_embeddings

        path = self.asked.embed
        assert path is not None
        count = write_embeddings(path, self._answered(), len(self.photos.paths), self.exported.width)
        left_out = self.remarks.left_out
        left = f"; {left_out:,} photo{'s' * (left_out > 1)} left out" if left_out else ""
        print(f"{shown(path)}: {count:,} embedding{'s' * (count > 1)} of {self.exported.width:,} values{left}")

    def _answer_each(self) -> None:
        """A line a photo, as soon as it is known."""
        faces: list[Face] = []
        points: list[Points] = []
        likely: list[list[tuple[str, float]]] = []
        keeps = self.asked.out or self.asked.html
        number = 0
        for batch, answers in self._answered():
            for face, answer in zip(batch, answers, strict=True):
                number += 1
                if self.exported.kind == "landmarks":
                    found = landmarks_in_photo(answer, face)
                    print(f"{shown(face.path)}: {landmarks_line(found)}")
                    points += [found] if keeps else []
                else:
                    ranked = likely_names(answer, self.names)
                    print(f"{shown(face.path)}: {shown(names_line(ranked))}")
                    likely += [ranked] if keeps else []
                faces += [face] if keeps else []
        if not number:
            raise DataError("none of the photos can be used")
        if self.asked.out:
            self._draw_each(faces, points, likely)
        if self.asked.html:
            from facedistill.predict.page import landmarks_card, names_card, write_page

            cards = [landmarks_card(*one) for one in zip(faces, points, strict=True)] if points else []
            cards = cards or [names_card(*one) for one in zip(faces, likely, strict=True)]
            write_page(self.asked.html, self.exported, self.session.model, cards, remarks=self.remarks.summary())
            print(f"{shown(self.asked.html)} shows it as a page")

    def _draw_each(
        self, faces: list[Face], points: list[Points], likely: Sequence[Sequence[tuple[str, float]]]
    ) -> None:
        from facedistill.predict.pictures import ALONE, cards, drawn, save_picture

        assert self.asked.out is not None
        if points and len(faces) == 1:
            picture = drawn(faces[0], points[0], ALONE)
        elif points:
            picture = cards(faces, points, [[face.path] for face in faces])
        else:
            lines = [
                [face.path, *(names_line([one]) for one in ranked)] for face, ranked in zip(faces, likely, strict=True)
            ]
            picture = cards(faces, [face.points for face in faces], lines)
        save_picture(self.asked.out, picture)
        print(f"{shown(self.asked.out)} shows it")

    def _compare(self) -> None:
        found = list(self._answered())
        faces = [face for batch, _ in found for face in batch]
        if len(faces) < 2:
            raise DataError(f"{'one' if faces else 'none'} of the photos can be used, and two are needed to compare")
        cosines = similarities(np.concatenate([answers for _, answers in found]))
        verdict = self._verdict(float(cosines[0, 1])) if len(faces) == 2 else None
        if verdict:
            print(shown(f"{verdict[0]}: {verdict[1]}" if self.threshold else verdict[1]))
        elif len(faces) <= MOST_IN_MATRIX:
            self._print_matrix(faces, cosines)
        else:
            self._print_nearest(faces, cosines)
        if verdict is None and self.threshold is None:
            print(f"The export has no threshold, {no_threshold(self.exported)}")
        if self.asked.out:
            from facedistill.predict.pictures import cards, compared, save_picture

            if verdict:
                lines = [[face.path] for face in faces]
                lines[0].append(f"similarity {cosines[0, 1]:z.3f}")
                lines[1].append(verdict[0] if self.threshold else "")
                picture = cards(faces, [face.points for face in faces], lines)
            else:
                picture = compared(faces, cosines, self.threshold)
            save_picture(self.asked.out, picture)
            print(f"{shown(self.asked.out)} shows it")
        if self.asked.html:
            from facedistill.predict.page import similarity_cards, write_page

            cards_of = similarity_cards(faces, cosines, self.threshold)
            said = self.remarks.summary()
            write_page(self.asked.html, self.exported, self.session.model, cards_of, self.threshold, verdict, said)
            print(f"{shown(self.asked.html)} shows it as a page")

    def _verdict(self, cosine: float) -> tuple[str, str]:
        """On two faces, and what it means."""
        if self.threshold is None:
            said = f"similarity {cosine:z.3f}"
            return said, f"{said}. The export has no threshold, {no_threshold(self.exported)}"
        words = f"similarity {cosine:z.3f}, threshold {self.threshold.value:.3f}. {self.threshold.meaning(cosine)}"
        return self.threshold.verdict(cosine), words.strip()

    def _print_matrix(self, faces: Sequence[Face], cosines: NDArray[np.float64]) -> None:
        from rich.table import Table
        from rich.text import Text

        table = Table("", "photo", *(str(number + 1) for number in range(len(faces))))
        for number, face in enumerate(faces):
            cells = [self._cell(cosines[number, other], number == other) for other in range(len(faces))]
            table.add_row(str(number + 1), Text(shown(face.path)), *cells)
        Output().print_whole(table)
        if self.threshold:
            print(f"*: the same person, similarity {self.threshold.value:.3f} or more")

    def _cell(self, cosine: float, is_itself: bool) -> str:
        if is_itself:
            return ""
        return f"{cosine:z.2f}{'*' if self.threshold and self.threshold.accepts(cosine) else ' '}"

    def _print_nearest(self, faces: Sequence[Face], cosines: NDArray[np.float64]) -> None:
        others = cosines - 3 * np.eye(len(faces))
        for number, other in enumerate(others.argmax(axis=1).tolist()):
            cosine = float(cosines[number, other])
            verdict = f", {self.threshold.verdict(cosine)}" if self.threshold else ""
            print(f"{shown(faces[number].path)}: most similar {shown(faces[other].path)}, {cosine:z.3f}{verdict}")
        if self.threshold:
            pairs = cosines[np.triu_indices(len(faces), 1)].tolist()
            same = sum(map(self.threshold.accepts, pairs))
            print(f"{same:,} of {len(pairs):,} pairs are of the same person, {self.threshold.value:.3f} or more")
