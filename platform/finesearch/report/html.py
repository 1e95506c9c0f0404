"""Builds HTML with all other text escaped, so that text from a trial cannot break the page."""

from html import escape

VOID = frozenset({"meta", "br", "hr"})


class Html(str):
    """Text that is HTML already; everything else is escaped by ``tag``."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: str | bool | None) -> Html:
    """An element with escaped text and attributes; ``class_`` and ``data_x`` give ``class`` and ``data-x``.

    An attribute with value True has no value in HTML; one with None or False is left out.

    >>> tag("p", "a < b", tag("b", "c"), class_="note", data_trial='"7"', hidden=None)
    '<p class="note" data-trial="&quot;7&quot;">a &lt; b<b>c</b></p>'
    """
    written = ""
    for key, value in attributes.items():
        attribute = key.rstrip("_").replace("_", "-")
        if value is True:
            written += f" {attribute}"
        elif value is not None and value is not False:
            written += f' {attribute}="{escape(value)}"'
    if name in VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{concat_html(*children)}</{name}>")


def concat_html(*children: str) -> Html:
    """Children joined; those that are not :class:`Html` are escaped.

    >>> concat_html(Html("<br>"), "<br>")
    '<br>&lt;br&gt;'
    """
    return Html("".join(child if isinstance(child, Html) else escape(child) for child in children))
