"""What the studio shows of matrices and masks: tiles, previews, histograms."""
