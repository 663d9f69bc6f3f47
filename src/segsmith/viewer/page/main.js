// The viewer's first page.
