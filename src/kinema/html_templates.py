"""The templates of the HTML pages."""

from jinja2 import Environment, PackageLoader, StrictUndefined


def html_templates() -> Environment:
    """Return the templates: text is escaped, and a value that is missing is an error."""
    return Environment(
        loader=PackageLoader("kinema"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
