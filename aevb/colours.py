"""Okabe and Ito's palette, which readers of all kinds of colour vision can tell apart."""

# the colours of figures and widgets, as they are written in HTML
BLUE, ORANGE, GREEN, PINK, SKY, YELLOW, GREY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#666666",
)
