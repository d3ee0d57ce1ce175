#!/usr/bin/env python3
"""Writes tests/base/portable_math.txt: arguments and values of exp, log, power, sine and cosine. A
value is two doubles: correctly rounded, and what is left.

Arguments are the hard ones: next to multiples of pi/2, next to 1, at the ends of the range of a
double, the frequencies and angles of rotary embeddings, and random ones. Needs mpmath (1.4.1 was
used; the values do not depend on it): python3 tools/make_math_table.py tests/base/portable_math.txt
"""
import math
import random
import sys

from mpmath import mp, mpf

mp.prec = 400
THETAS = [1e4, 1e5, 1.5e5, 5e5, 1e6, 5e6, 1e7, 1e8]


def near_quarter_turns(limit):
    """The doubles below `limit` that lie nearest to a multiple of pi/2, by continued fractions."""
    found = set()
    for exponent in range(-2, int(math.log2(limit))):
        # x = m 2^scale with a 53-bit m: convergents of 2^scale / (pi/2) give m near n (pi/2) / 2^scale.
        scale = exponent - 52
        ratio = mpf(2) ** scale / (mp.pi / 2)
        p0, q0, p1, q1 = 0, 1, 1, 0
        x = ratio
        while True:
            a = int(mp.floor(x))
            p0, p1 = p1, a * p1 + p0
            q0, q1 = q1, a * q1 + q0
            if q1 >= 2**53:
                break
            if q1 >= 2**52:
                found.add(math.ldexp(q1, scale))
            x = 1 / (x - a)
    return sorted(found)


def main():
    chance = random.Random(7)
    rows = []
    for x in near_quarter_turns(2.0**31):
        rows += [("sin", x), ("cos", x), ("sin", -x)]
    for n in [1, 2, 3, 4, 5, 1000, 1000001, 2**31 - 1, 1367130551]:
        x = float(n * mp.pi / 2)
        if x <= 2.0**31:
            rows += [("sin", x), ("cos", x)]
    for position in [1, 31, 4095, 131072, 262143, 1048576, 5000011]:
        for i in [0, 1, 7, 31, 63]:
            x = position * float(mpf(1e6) ** (mpf(-2 * i) / 128))
            rows += [("sin", x), ("cos", x)]
    for x in [0.0, 5e-324, 1e-300, 1e-8, 0.5, -0.785398163397448, 0.7853981633974484]:
        rows += [("sin", x), ("cos", x)]
    for _ in range(100):
        x = chance.uniform(-1, 1) * 2.0 ** chance.uniform(-3, 31)
        rows += [("sin", x), ("cos", x)]

    for x in [0.0, 1.0, -1.0, 1e-20, -1e-20, 709.782712893384, 709.7827128933841, -708.3964185,
              -745.1332191019411, -745.1332191019412, -744.4400719213812, -30.0, 0.34657359027997264]:
        rows.append(("exp", x))
    for _ in range(150):
        rows.append(("exp", chance.uniform(-745, 709)))
        rows.append(("exp", chance.uniform(-1, 1)))

    for x in [5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 1.0, math.nextafter(1, 0),
              math.nextafter(1, 2), 0.7071067811865475, 0.7071067811865476, 1.4142135623730951,
              1.414213562373095, 2.0, 2.0**-53, 1 - 2.0**-40, 10.0]:
        rows.append(("log", x))
    for _ in range(150):
        rows.append(("log", 2.0 ** chance.uniform(-1074, 1024)))
        rows.append(("log", chance.uniform(0.5, 2)))

    for theta in THETAS:
        for dims in [64, 80, 96, 128, 256]:
            for i in range(2, dims, 22):
                rows.append(("pow", theta, -i / dims))

    functions = {"exp": mp.exp, "log": mp.log, "sin": mp.sin, "cos": mp.cos, "pow": mp.power}
    with open(sys.argv[1], "w", encoding="ascii") as out:
        out.write("# By tools/make_math_table.py. function, arguments, value, what is left\n")
        for name, *arguments in rows:
            exact = functions[name](*map(mpf, arguments))
            value = float(exact)  # rounds to nearest, subnormals included
            left = float(exact - value) if math.isfinite(value) else 0.0
            numbers = [*arguments, value, left]
            out.write(" ".join([name, *(x.hex() for x in numbers)]) + "\n")


if __name__ == "__main__":
    main()
