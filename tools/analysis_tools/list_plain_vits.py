"""Print which vision transformers of mmpretrain and timm the curricula train, in Markdown.

Each model is built tiny, and tried on fewer tokens and on smaller images.
"""

import argparse

from mmvitlin.curricula.plain_vits import table
from mmvitlin.engine.launcher import one_line_errors


def main() -> None:
    """Print."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print(table())


if __name__ == '__main__':
    with one_line_errors():
        main()
