"""Development tools of this repository; nothing here ships."""
