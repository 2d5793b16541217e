"""What is written to a page is what its reader sees."""

from __future__ import annotations

import pytest

from manual_pages import shown
from superezio.roff import Page, escape, styled

_AWKWARD = (
    r"a backslash \n and \\ two",
    "--option and -o, well-known",
    ".TH begins no page, and .",
    '\'tis a quote, "double", `back',
    "^ and ~ and $HOME and %h and @",
    "12 °C, 5 µs, “so”",
    r"\fBnot bold\fR",
)


def _shown(page: Page) -> list[str]:
    return [line.strip() for line in shown(page.text).splitlines() if line.strip()]


@pytest.mark.parametrize("text", _AWKWARD)
def test_text_is_shown_as_it_is_wherever_it_stands(text: str) -> None:
    page = Page("page", 7, "summary")
    page.heading(text)
    page.subheading(text)
    page.example([text])
    page.tagged(f"x {text}", "meaning")
    page.paragraph(f"so: {text}")
    lines = _shown(page)
    assert lines.count(text) == 3
    assert f"x {text}" in lines
    assert f"so: {text}" in lines


@pytest.mark.parametrize("text", [each for each in _AWKWARD if "`" not in each])
def test_a_paragraph_and_a_tag_may_begin_with_anything(text: str) -> None:
    page = Page("page", 7, "summary")
    page.paragraph(text)
    page.tagged(f"`{text}`", f"`{text}`")
    page.bullet(text)
    lines = _shown(page)
    assert lines.count(text) == 3
    assert f"• {text}" in [" ".join(line.split()) for line in lines]


def test_lines_of_an_example_keep_their_spaces_and_empty_lines() -> None:
    page = Page("page", 7, "summary")
    page.example(["if true", "", "    .x  y"])
    assert "if true\n\n               .x  y" in shown(page.text)


def test_code_is_bold_and_emphasis_is_italic_and_a_lone_star_is_a_star() -> None:
    assert styled("`a-b` or *c d*") == r"\fBa\-b\fR or \fIc d\fR"
    assert styled("conf.d/*.toml, *.x and 2*3*4") == "conf.d/*.toml, *.x and 2*3*4"


def test_a_sentence_has_a_line_of_its_own_but_not_inside_code() -> None:
    page = Page("page", 7, "summary")
    page.paragraph("One. Two:\nthree `a. b` ... four.")
    assert page.text.splitlines()[-3:] == ["One.", "Two:", r"three \fBa. b\fR ... four."]


def test_nothing_of_roff_is_left_unescaped() -> None:
    assert escape("\\ - ' \" ` ^ ~ é") == r"\e \- \(aq \(dq \(ga \(ha \(ti \[u00E9]"


def test_a_page_begins_with_its_name_and_ends_with_others() -> None:
    page = Page("one-page", 5, "what it is")
    page.see_also(("other-page", 1), ("third", 8))
    lines = _shown(page)
    assert lines[0].startswith("ONE-PAGE(5)")
    assert lines[1:3] == ["NAME", "one-page - what it is"]
    assert lines[3:5] == ["SEE ALSO", "other-page(1), third(8)"]
