"""All of loading in one run: RGB from videos, stores and JPEG files, then flow from stores.

    python benchmarks/loader.py FOLDER_OF_VIDEOS [--videos N]

See loader_rgb.py and loader_flow.py for what is compared.
"""

import loader_flow
import loader_rgb


def main() -> None:
    """Print both tables."""
    loader_rgb.main()
    loader_flow.main()


if __name__ == "__main__":
    main()
