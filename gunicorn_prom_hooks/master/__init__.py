"""What runs in the master: who has which slot, who left and how, and the exporter."""
