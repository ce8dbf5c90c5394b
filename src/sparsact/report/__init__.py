"""Pages and pictures from plain records, without any knowledge of models."""
