"""What a release consists of: a CycloneDX list and the licence texts of everything in it.

Both are made at build, from the release's own bytes, and travel in it under `sbom/`, so that they
are signed with the rest and can be read at a site years later:

    sbom/bom.cdx.json              CycloneDX 1.6: models, Python wheels, Debian packages, digests, licences
    sbom/THIRD-PARTY-NOTICES.txt   each licence text once, with everything that it covers
"""
