"""A bundle over several volumes: split, parity, repair, labels and receipts.

    parity     erasure code over cells        plan      which leaf lies in which cell of which volume
    header     what a volume says of itself   write     volumes onto folders or mounted sticks
    reader     leaves from any set of media   intake    import from what is here, and what is to come
    request    which leaves are wanted again  repair    a volume with only these

Nothing here needs to be trusted: what a volume, its parity or another stick gives is checked against
the signed leaf digests like everything else. This package decides where bytes lie, never whether
they are right.
"""
