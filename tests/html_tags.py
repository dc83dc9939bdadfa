"""A parser that holds a page to closed tags, and keeps its ids and links."""

from html.parser import HTMLParser

VOID = {"meta", "link", "img", "input", "br"}


class Tags(HTMLParser):
  """Checks that tags are closed in order, and keeps ids and links."""

  def __init__(self):
    super().__init__()
    self.open, self.ids, self.links, self.outside = [], [], set(), []

  def handle_starttag(self, tag, attrs):
    named = dict(attrs)
    if tag not in VOID:
      self.open.append(tag)
    if "id" in named:
      self.ids.append(named["id"])
    if named.get("href", "").startswith("#"):
      self.links.add(named["href"][1:])
    urls = [named.get("src"), named.get("href")]
    self.outside += [u for u in urls if u and not u.startswith(("#", "data:"))]

  def handle_startendtag(self, tag, attrs):
    pass

  def handle_endtag(self, tag):
    assert self.open.pop() == tag
