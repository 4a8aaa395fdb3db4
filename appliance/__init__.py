"""The core of Leeward: domain, services, adapters and entry points of the appliance."""
