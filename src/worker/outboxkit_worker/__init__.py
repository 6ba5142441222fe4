"""The worker role: answers triggers, runs jobs, and polls for those no trigger came for."""
