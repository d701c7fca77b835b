"""What the program shows and ships besides code: icons, themes, samples, guide, plan presets."""
