"""Runs playbooks with ansible-runner and tells what happens as events."""

from appliance.adapters.ansible.runner import AnsibleRunner

__all__ = ["AnsibleRunner"]
