from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

from django.utils.safestring import SafeString, mark_safe

from agent_sessions.conf import conf

TAGS = {
    *("a", "blockquote", "br", "code", "del", "em", "hr", "li", "ol", "p", "pre"),
    *("strong", "table", "tbody", "td", "th", "thead", "tr", "ul"),
    *("h4", "h5", "h6"),
}

# Beyond this it is data, and the parser is slow.
MAX_LENGTH = 20_000


def is_installed() -> bool:
    """Tell whether the extra [markdown] is there."""
    return all(find_spec(name) is not None for name in ("markdown_it", "nh3"))


def render_markdown(text: str) -> SafeString | None:
    """
    Return ``text`` as HTML with nothing in it that loads or runs; None for plain text.

    None if AGENT_SESSIONS_RENDER_MARKDOWN is off or the text is too long.
    """
    if not conf.AGENT_SESSIONS_RENDER_MARKDOWN or len(text) > MAX_LENGTH:
        return None
    if not is_installed():
        return None
    import nh3

    html = nh3.clean(
        _parser().render(text),
        tags=TAGS,
        attributes={"a": {"href"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener nofollow",
    )
    # Safe because nh3 has let nothing through but the tags above.
    return mark_safe(html)


@cache
def _parser() -> Any:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False})
    parser.enable(["table", "strikethrough"]).disable(["image"])
    parser.add_render_rule("heading_open", _heading)
    parser.add_render_rule("heading_close", _heading)
    return parser


def _heading(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    # The page's own headings end with the turn's, an h3.
    token = tokens[index]
    level = min(6, int(token.tag[1]) + 3)
    return f"</h{level}>" if token.nesting < 0 else f"<h{level}>"
