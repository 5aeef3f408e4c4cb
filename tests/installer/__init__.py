"""Tests of the installer and of the manifests it ships."""
