"""The format of a Leeward bundle and its trust.

This package is a leaf: it knows nothing of the appliance, so that a security reviewer can read it
alone and an auditor's laptop can install it alone. A release travels through it like this:

    from bundles.layout import open_bundle
    from bundles.trust import TrustStore
    from bundles.verify import import_release

    trust = TrustStore(Path("/var/lib/leeward/trust"))
    trust.anchor(root_json, expected_fingerprint="5f2c...")       # once, compared with paper
    bundle = open_bundle(Path("/media/leeward"))
    verified = trust.check(bundle, now=datetime.now(UTC))         # signatures, then release policy
    slot = import_release(bundle, verified, store=..., slots=..., staging=...)   # then content
    verified.commit()                                             # only now is the new state trusted

and is made like this:

    from bundles.keys import Keyring
    from bundles.publish import publish

    keyring = Keyring.create(Path("keys"))                        # or Keyring.create_site(...)
    report = publish(tree, release, keyring, out=Path("medium"))  # a folder, or {path: bytes}

Pure modules (no input or output, no clock): digest, manifest, codec, release, errors.
"""
