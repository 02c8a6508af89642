"""The manual: what turns ``docs/`` into pages, notebooks and pictures. ``python -m manual`` builds it; nothing here ships."""
