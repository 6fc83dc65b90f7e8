"""The main job from end to end; the same as ``python -m sklearn_cxr.quickstart``.

Usage: ``python examples/quickstart.py [--data FOLDER] [--output FOLDER] [--n-jobs N]``
"""

from sklearn_cxr.quickstart import main

if __name__ == "__main__":
    main()
