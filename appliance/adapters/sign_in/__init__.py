"""Asking the site who somebody is: its OpenID provider's tokens, its directory's passwords."""

from appliance.adapters.sign_in.directory import Directory
from appliance.adapters.sign_in.issuer_keys import IssuerKeys
from appliance.adapters.sign_in.tokens import TokenReader

__all__ = ["Directory", "IssuerKeys", "TokenReader"]
