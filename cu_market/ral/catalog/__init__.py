"""Price catalogues: rows checked on import, kept with their date, offered as CUs."""
