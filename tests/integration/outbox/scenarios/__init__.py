"""The interleavings by theme, as plain functions of a stage: tests run them, and the mutation proof runs them too."""
