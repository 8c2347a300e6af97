"""What most of our data is made of: small, never changed once it is made. Pure."""

import msgspec


class Value(msgspec.Struct, frozen=True, gc=False):
    """Base of what each callback makes by the dozen.

    A value holds only what was there before it, so it is never part of a cycle. The garbage collector looks for nothing
    else: it need not know of values (`gc=False`, which subclasses inherit), and has so much less to look through.
    """
