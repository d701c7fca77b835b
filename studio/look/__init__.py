"""What everything in the window is made of: colours, icons, small widgets, numbers in words."""
