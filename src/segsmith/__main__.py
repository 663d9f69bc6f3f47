"""python -m segsmith"""

from segsmith.cli import main

main()
