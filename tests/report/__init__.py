"""Tests of `datagen.report`."""
