"""How a corpus is cut into shards, spread over workers and committed; a killed run loses and doubles nothing."""

import lingua

if not hasattr(lingua, "CompressionConfig"):
    raise ImportError(
        f"{lingua.__file__} is not Lingua's: another distribution installs a package `lingua` too "
        "(lingua-language-detector does); install Lingua into an environment of its own"
    )
