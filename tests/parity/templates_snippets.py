"""Small templates, one language feature each, compared with jinja2 as transformers sets it up.

A snippet is a template, or a template and variables that are added to CONTEXT.
"""

CONTEXT = {
    "n": 7,
    "f": 2.5,
    "s": "Hello World",
    "u": "Grüße 😀 ΣΑΣ",
    "t": True,
    "z": None,
    "e": "",
    "l": [3, 1, 2],
    "w": ["b", "A", "c", "a"],
    "d": {"one": 1, "two": [2, "zwei"], "items": "shadow", "None": 0},
    "deep": {"a": {"b": [{"c": "x"}, {"c": "y"}]}},
    "m": [
        {"role": "system", "content": "be kind", "n": 2, "flag": True},
        {"role": "user", "content": "hi", "n": 1},
        {"role": "User", "content": None, "n": 3, "flag": False},
        {"role": "user", "content": "bye", "n": 1, "flag": None},
    ],
}

# Expressions, each printed as {{ ... }}.
EXPRESSIONS = r"""
1 + 2 * 3 - 4
(1 + 2) * 3
2 ** 3 ** 2
-2 ** 2
- 3 + +4
7 / 2
6 / 3
7 // 2
-7 // 2
7 // -2
-7 % 3
7 % -3
-7.5 % 2
7.5 // 2
-7.5 // 2
1e3
1.5e-7
1e16
1e15
123456789012345678
0.1 + 0.2
1e22
1_000
0x1F
0b101
0o17
1_0.5_0
1 / 3
100 * 1.1
2 ** -1
2 ** 0.5
2 ** 62
9223372036854775807
10 ** 15 + 0.5
true + true
true == 1
1 == 1.0
'1' == 1
none == false
[] == ()
[1, 2] == [1, 2]
(1, 2) == (1, 2)
{'a': 1} == {'a': 1.0}
1 < 2 < 3
1 < 3 < 2
1 < 2 > 1 == true
3 > 2 >= 2 != 1
'a' < 'b'
'a' < 'B'
[1, 2] < [1, 3]
(1,) < (1, 0)
1 < 'a'
none < 1
'a' in 'abc'
'x' not in 'abc'
1 in [1, 2]
1.0 in [1, 2]
'one' in d
1 in d
1 in 'abc'
2 in (1, 2)
not 1 in [2]
not true
not not ''
not none and true
1 and 2
0 and 2
1 or 2
0 or ''
'' or none or 'x'
1 if true else 2
1 if false
1 if false else 2 if false else 3
(1 if false) is defined
('a' 'b' "c")
'a' ~ 1 ~ none ~ true ~ 2.0 ~ [1] ~ undefined_name
'a' + 'b'
'a' + 1
1 + 'a'
'a' * 3
3 * 'ab'
[1] * 2
[1] + [2]
(1,) + (2,)
[1] + (2,)
'%s and %s' % ('a', 1)
'%s' % 'x'
'%s %s' % ('a',)
'%s' % ('a', 'b')
'%d' % 'x'
'%s' % [1, 'a']
'%s' % none
'%5%|' % ()
'%q' % 1
'abc'[0]
'abc'[-1]
'abc'[5]
'abc'[1:]
'abc'[:-1]
'abc'[::-1]
'abcdef'[1:5:2]
'abcdef'[-2:]
'abcdef'[4:1:-1]
'abc'[::0]
u[0]
u[2]
u[6]
u[-1]
u[::-1]
u[2:8]
u | length
l[0]
l[-1]
l[9]
l[1:]
l[::-1]
l['a']
l[none]
l[1.0]
l[true]
(1, 2, 3)[1:]
l[1:'a']
z[1:]
d['one']
d.one
d['items']
d.items()
d.keys()
d.values()
d['two'][1]
d.two.1
d.two.0
d['missing']
d.missing
d.missing.more
d['missing']['more']
d.get('one')
d.get('missing')
d.get('missing', 5)
d.get('items')
d.get()
d.get([])
d[[]]
d.pop('one')
d.update({})
d.setdefault('a', 1)
d.clear()
l.append(4)
l.pop()
l.sort()
l.index(1)
l.index(9)
l.count(1)
l.copy()
d.copy()
d.__class__
d['__class__']
''.__class__.__mro__
missing
missing.attr
missing['x']
missing()
missing + 1
missing == missing
missing == none
missing in [1]
missing | length
missing | list
missing | default('x')
missing | upper
missing ~ 'x'
missing < 1
-missing
[missing]
{'a': missing}
missing is defined
missing.attr is defined
d.missing is defined
d.missing is undefined
d.pop is defined
z.attr
z.attr is defined
n.attr is defined
z()
n()
s()
[1, 'a', 2.0, none, true, [], {}, ()]
{'a': 1, 'b': {'c': [1]}}
{1: 'x', none: 'y', true: 'z'}
{'a': 1, 'a': 2}
{1: 'a', 1.0: 'b', true: 'c'}
(1,)
()
(1, 'a')
"it's"
["it's", 'say "x"', 'both \' "']
['é', '\n', '\t', '\\', '\x00', '\x7f', '\u00a0', '\u200b', '😀', '\u2028']
'\x41\u00e9\101\q'
'a\
b'
[1.0, 1.5, 1e100, 1e-5, 0.0001, 1e16, 123456789.123456789, -0.0]
range(3)
range(1, 10, 3) | list
range(5, 0, -2) | list
range(10)[2:5]
range(10)[3]
range(0)
range(200000)
range('a')
5 in range(10)
n is number
f is number
true is number
n is integer
true is integer
f is float
n is float
s is string
n is string
d is mapping
l is mapping
l is sequence
s is sequence
d is sequence
n is sequence
range(3) is sequence
d.items() is sequence
l is iterable
n is iterable
missing is iterable
none is none
missing is none
true is true
1 is true
false is false
t is boolean
1 is boolean
3 is odd
3 is even
3.0 is odd
'a' is odd
9 is divisibleby 3
9 is divisibleby(4)
9 is not divisibleby 4
1 is eq 1
1 is equalto(1)
1 is == 1
'a' is in 'abc'
'a' is in ['a']
1 is lt 2
1 is ge(2)
1 is greaterthan 0
1 is ne 1
'abc' is lower
'ABC' is upper
'Abc' is lower
'123' is upper
s is callable
range is callable
missing is callable
1 is sameas 1
none is sameas none
true is sameas true
not 1 is odd
1 is odd and 2 is even
1 is nosuchtest
1 | nosuchfilter
1 is odd is even
s.upper()
s.lower()
s.title()
"they're bill's 3x-y".title()
"they're bill's (x) -y [z".title()
"they're bill's (x) -y [z" | title
'hELLO wORLD'.capitalize()
'hELLO' | capitalize
u.upper()
'ß'.upper()
'  x '.strip()
' \u00a0\u2003x\n'.strip() | length
'xxaxx'.strip('x')
'xyaxy'.strip('yx')
'xxaxx'.lstrip('x')
'xxaxx'.rstrip('x')
'ééaé'.strip('é')
'abc'.strip(none)
'abc'.strip(1)
'a b  c'.split()
' a b '.split()
'a,b,,c'.split(',')
'a,b,c'.split(',', 1)
'a b c d'.split(none, 2)
'a b c d'.split(maxsplit=1)
'a,b,c'.rsplit(',', 1)
' a b c '.rsplit(none, 1)
' a b  c '.split(none, 1)
' a b c '.split(none, 0)
' a b c '.rsplit(none, 0)
'abc'.split('')
''.split()
''.split(',')
'a\nb\r\nc\u2028d'.splitlines()
'a\nb\n'.splitlines(true)
'abc'.startswith('a')
'abc'.startswith(('x', 'a'))
'abc'.startswith('b', 1)
'abc'.startswith(['a'])
'abc'.endswith('bc')
'abc'.endswith('b', 0, 2)
'abcabc'.find('c')
'abcabc'.rfind('c')
'abc'.find('x')
'üabc'.find('b')
'abc'.find('', 1)
'abc'.find('', 5)
'abc'.index('x')
'üaüa'.index('a', 2)
'abcabc'.count('bc')
'aaa'.count('')
'aaa'.count('aa')
'abcabc'.replace('b', 'X')
'abcabc'.replace('b', 'X', 1)
'abc'.replace('', '-')
'abc'.replace('', '-', 2)
'éa'.replace('', '-')
'abc'.replace(1, 2)
', '.join(['a', 'b'])
', '.join([1])
','.join('abc')
','.join(d)
'abc'.partition('b')
'abc'.partition('x')
'abcb'.rpartition('b')
'abc'.removeprefix('ab')
'abc'.removesuffix('bc')
'abc'.isalpha()
'ab1'.isalnum()
'12'.isdigit()
' \n'.isspace()
'abc'.isupper()
'ABC1'.isupper()
''.isalpha()
'{} {}'.format(1, 'a')
'{1} {0}'.format(1, 'a')
'{{}} {}'.format(1)
'{'.format(1)
'}'.format(1)
'{}'.format()
'{x}'.format(y=1)
'{:d}'.format('a')
'{}'.format(none)
'{:5}'.format(none)
'{}'.format([1, 'a'])
s | upper
s | lower
5 | upper
none | upper
s | length
5 | length
l | count
d | length
s | first
s | last
[] | first
[] | last
l | first
l | last
d | first
d | last
u | last
5 | first
l | sort
l | sort(reverse=true)
w | sort
w | sort(case_sensitive=true)
w | sort(true)
[1, 'a'] | sort
[none, 1] | sort
m | sort(attribute='n') | map(attribute='content') | list
m | sort(attribute='n,role', reverse=true) | map(attribute='role') | list
d | dictsort
{'b': 1, 'A': 2} | dictsort
{'b': 1, 'A': 2} | dictsort(true)
{'b': 1, 'A': 2} | dictsort(by='value')
{'b': 1, 'A': 2} | dictsort(by='x')
{'b': 1, 'A': 2} | dictsort(reverse=true)
l | reverse | list
'abc' | reverse
d | reverse | list
5 | reverse
l | join
l | join(', ')
m | join('-', attribute='role')
'abc' | join('.')
5 | join
d | join(',')
[1, none, missing, true] | join('|')
l | list
'abc' | list
'é😀' | list
d | list
5 | list
none | list
l | sum
[1.5, 2] | sum
m | sum(attribute='n')
l | sum(start=10)
['a'] | sum
[[1], [2]] | sum(start=[])
l | min
l | max
w | min
w | max
w | max(case_sensitive=true)
[] | max
m | max(attribute='n')
[1, 'a'] | max
w | unique | list
w | unique(true) | list
m | unique(attribute='role') | map(attribute='role') | list
[1, 1.0, true, 2] | unique | list
[[1]] | unique | list
m | map('length') | list
w | map('upper') | list
w | map('nope') | list
w | map() | list
m | map(attribute='content') | list
m | map(attribute='missing') | list
m | map(attribute='missing', default='-') | list
m | map(attribute='content', nope=1) | list
deep.a.b | map(attribute='c') | join
[deep] | map(attribute='a.b.0.c') | list
[[1, 2], [3, 4]] | map(attribute=1) | list
[1, 2] | map('string') | list
['a', 'b'] | map('replace', 'a', 'x') | list
none | map('upper') | list
5 | map('upper') | list
[1, 2, 3, 4] | select('odd') | list
[1, 2, 3, 4] | reject('odd') | list
[0, 1, '', 'a', none] | select | list
[0, 1, '', 'a', none] | reject | list
[1, 2, 3] | select('greaterthan', 1) | list
[1, 2, 3] | select('in', [1, 3]) | list
[1, 2] | select('nope') | list
m | selectattr('flag') | list
m | selectattr('flag', 'defined') | map(attribute='content') | list
m | selectattr('role', 'equalto', 'user') | list | length
m | selectattr('role', '==', 'user') | map(attribute='content') | join('|')
m | selectattr('role', 'in', ['user', 'system']) | list | length
m | rejectattr('role', 'equalto', 'user') | list | length
m | rejectattr('flag') | map(attribute='role') | list
m | selectattr() | list
m | selectattr('content', 'none') | list | length
(m | selectattr('flag')) | length
(m | selectattr('flag'))[0]
(m | selectattr('flag')) is iterable
(m | selectattr('nope')) and true
(l | select) | last
[1] | slice(0) | list
d | items | list
missing | items | list
5 | items | list
'a b' | replace(' ', '_')
'aaa' | replace('a', 'b', 2)
5 | replace(5, 6)
' x ' | trim
'xax' | trim('x')
none | trim
5 | trim
'a\nb\n\nc' | indent
'a\nb\n\nc' | indent(2, true)
'a\nb\n\nc' | indent(2, blank=true)
'a\nb' | indent('--')
'a\nb\n' | indent(1)
'' | indent
5 | indent
'<a href="x">\'&' | escape
'<a>' | e
'<a>' | safe
'<a>' + ('<b>' | safe)
('<b>' | safe) + '<a>'
('<b>' | safe) ~ '<a>'
['<b>' | safe]
'<b>' | e | e
5 | string
[1] | string
'x' | string
'42' | int
'-42 ' | int
'42.7' | int
'abc' | int
'abc' | int(5)
3.99 | int
-3.99 | int
none | int
true | int
[] | int(7)
'nan' | int(3)
'inf' | int(3)
'1e3' | int
'١٢' | int is defined
'3.5' | float
'x' | float
'x' | float(1.5)
'1e5' | float
'inf' | float
'nan' | float
'-inf' | float
' 2 ' | float
none | float
5 | float
'0x10' | float
-5 | abs
-5.5 | abs
'a' | abs
42 | round(method='nope')
'a' | round
'a' | default('b')
'' | default('b')
'' | default('b', true)
none | default('b')
none | d('b', boolean=true)
missing | d
d | tojson
d | tojson(indent=2)
d | tojson(indent=0)
d | tojson(indent='\t')
{} | tojson(indent=2)
[[], {}] | tojson(indent=1)
d | tojson(separators=(',', ':'))
d | tojson(separators=[',', ':'], indent=1)
{'b': 1, 'a': 2} | tojson(sort_keys=true)
{'b': 1, 'a': {'d': 1, 'c': 2}} | tojson(sort_keys=true, indent=4)
{1: 2, none: 3, true: 4, 1.5: 5} | tojson
{(1, 2): 3} | tojson
'é😀\u2028<>&\'"\\/\n\t\r\b\f\x00\x1f\x7f' | tojson
'é😀\u2028\x7f' | tojson(ensure_ascii=true)
[1, 1.0, 1e22, 1e-7, 0.1, true, none, 'x'] | tojson
['inf' | float, 'nan' | float, '-inf' | float] | tojson
missing | tojson
[missing] | tojson
range(3) | tojson
(1, 2) | tojson
d.items() | tojson
(l | select) | tojson
d | tojson(nope=1)
m | tojson
'%s' | format
'foo bar' | truncate(2)
namespace(a=1).a
namespace({'a': 1}, b=2).b
namespace(a=1).b
namespace(a=1)['a']
namespace(_a=1)
namespace(a=1).b is defined
dict(a=1, b=2)
dict([('a', 1)], b=2)
dict({'a': 1})
dict(1)
dict(**{'x': 1})
range(*[1, 4]) | list
'{}-{}'.format(*['a', 'b'])
'{a}'.format(**{'a': 1})
raise_exception('bad ' ~ n)
raise_exception()
raise_exception(none)
strftime_now('%Y-%m-%d %H:%M:%S %d %b %B %a %A %j %p %I %y %% %-d')
strftime_now('%f %Z|%z|')
strftime_now('')
joiner(',')() ~ 'x'
cycler(1, 2).next()
cycler().next()
n.bit_length()
f.is_integer()
n.real is defined
s.upper is callable
d.get is callable
loop
self is defined
l == [3, 1, 2] and d.one == 1
n > 5 and f < 3 or missing.boom
(n, f) | join
'a' 'b' ~ 'c' 'd'
l[n - 7]
l[-1:][0]
m[0].role
m[0]['role']
m[-1].content | upper
m[1:][0].content
m | map(attribute='role') | join(',') | upper
(l | sort)[0]
l | sort | first
not l
l | length > 2
l | length == 3 and 'x'
'x' if l | length > 2 else 'y'
d.one + d.two[0]
d['o' ~ 'ne']
d[n]
{'a': l}['a'][0]
[l, w][1][0]
'a,b' .split(',') [0]
1 .real is defined
foo(1, 2
}} {{
1 +
a b
[1, 2
{'a' 1}
'abc
d.
d[]
1 is
1 |
(1, 2
f(a=1, 2)
f(**d, *l)
f(a=1, a=2)
not
1 if
""".strip("\n").split("\n")

# The one expression above that spans two lines.
_joined = []
for _line in EXPRESSIONS:
    if _joined and _joined[-1].endswith("\\"):
        _joined[-1] += "\n" + _line
    else:
        _joined.append(_line)

STATEMENTS = [
    # whitespace control
    "  {% if true %}\n  yes\n  {% endif %}\n  end\n",
    "a\n  {%- if true -%}\n  yes\n  {%- endif -%}\n  end\n",
    "a\n  {%+ if true +%}\n  yes\n  {%+ endif +%}\n  end\n\n",
    "a {% if true %} b {% endif %} c",
    "  {{ n }}\n  {{- n -}}  \n x",
    "  {# comment #}\nx\n  {#- comment -#}\n y",
    "a {#+ c +#}\nb",
    "a\n{# c #}\n\nb",
    "{#-#}x",
    "{# a {{ b }} {% c %} #}x",
    "x\n{% set a = 1 %}\n\n{% set b = 2 %}\ny",
    "\n\n{% if true %}\n\nx{% endif %}\n\n\n",
    "{% raw %}{{ x }} {% if %}{% endraw %}|",
    "a\n  {% raw %}\n  {{ x }}\n  {% endraw %}\nb",
    "a {%- raw -%} {{ x }} {%- endraw -%} b",
    "{% raw %}{% endraw %}x{% raw %} {# #} {%endraw%}",
    "\u00a0{%- if true -%}\u2003x{%- endif %}",
    "\t {% if true %}x{% endif %}\t\n",
    "a\r\nb\rc\n{% if true %}\r\nd{% endif %}\r\n",
    "'{{ 'a\r\nb' }}'",
    "{{ n }}\n",
    "{{ n }}\n\n",
    "x{{ '}}' }}y{{ \"%}\" }}",
    "{{ {'a': {'b': 1}}}}",
    "{{ {'a': {'b': 1}} }}",
    "{ { } } {a} {%% {",
    "{% if true %}{% raw %}\n{% endraw %}{% endif %}x",
    # if
    "{% if n > 5 %}a{% elif n > 3 %}b{% else %}c{% endif %}",
    "{% if z %}a{% elif e %}b{% elif n %}c{% else %}d{% endif %}",
    "{% if missing %}a{% else %}b{% endif %}",
    "{% if missing.x %}a{% endif %}",
    "{% if l %}{% if d %}x{% endif %}{% endif %}",
    "{% if n, %}x{% endif %}",
    "{% if true: %}x{% endif %}",
    "{% if n %}",
    "{% endif %}",
    "{% else %}",
    "{% if n %}{% endfor %}",
    "{% nosuchtag %}",
    "{% %}",
    "{% if %}x{% endif %}",
    "{% if false %}{{ 1 | nosuchfilter }}{% endif %}x",
    "{% if true %}{{ 1 | nosuchfilter }}{% endif %}x",
    "{% for i in [] %}{{ 1 | nosuchfilter }}{% endfor %}x",
    "{% if false %}{% for i in [] %}{{ 1 | nosuchfilter }}{% endfor %}{% endif %}x",
    "{{ 1 | nosuchfilter if false else 2 }}",
    "{{ 'x' if true else 1 is nosuchtest }}",
    # for
    "{% for i in l %}{{ i }},{% endfor %}",
    "{% for i in l -%}\n {{ i }}\n{%- endfor %}",
    "{% for i in [] %}x{% else %}empty{% endfor %}",
    "{% for i in missing %}x{% else %}empty{% endfor %}",
    "{% for i in none %}x{% else %}empty{% endfor %}",
    "{% for i in 5 %}x{% endfor %}",
    "{% for c in u %}[{{ c }}]{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d | items %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d | dictsort %}{{ k }}={{ v }};{% endfor %}",
    "{% for a, b in [(1, 2), [3, 4], 'xy'] %}{{ a }}{{ b }};{% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}",
    "{% for a, b in [(1,)] %}{{ a }}{% endfor %}",
    "{% for a, b in [1] %}{{ a }}{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for (a, b) in [(1, 2)] %}{{ a }}{{ b }}{% endfor %}",
    "{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}"
    "{{ loop.first }}{{ loop.last }}{{ loop.length }};{% endfor %}",
    "{% for i in l %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }};{% endfor %}",
    "{% for i in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }};{% endfor %}",
    "{% for i in l %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for i in l %}{{ loop.cycle() }}{% endfor %}",
    "{% for i in [1, 1, 2, 2, 1] %}{{ loop.changed(i) }} {% endfor %}",
    "{% for i in l %}{{ loop.depth }}{{ loop.depth0 }}{{ loop.nope }}{% endfor %}",
    "{% for i in l %}{% for j in w %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}",
    "{% for i in l %}{% set outer = loop %}{% for j in w %}{{ outer.index }}{{ loop.index }} "
    "{% endfor %}{% endfor %}",
    "{% for i in l if i > 1 %}{{ i }}/{{ loop.length }}/{{ loop.last }} {% endfor %}",
    "{% for i in l if i > 5 %}x{% else %}none{% endfor %}",
    "{% for a, b in [(1, 2), (3, 4)] if a > 1 %}{{ a }}{{ loop.previtem }}{% endfor %}",
    "{% for i in l if loop.index > 1 %}{{ i }}{% endfor %}",
    "{% set i = 9 %}{% for x in l if i > 5 %}{% set i = 1 %}{{ x }}{% endfor %}{{ i }}",
    "{% for i in l | select('odd') %}{{ i }}{{ loop.last }}{{ loop.length }}{% endfor %}",
    "{% set g = l | select %}{% for i in g %}{{ i }}{% endfor %}|{% for i in g %}{{ i }}{% endfor %}",
    "{% set g = l | select %}{% for i in g %}{% break %}{% endfor %}{{ g | list }}",
    "{% set g = l | map('string') %}{{ g | first }}{{ g | list }}",
    "{% for i in range(3) %}{{ i }}{% endfor %}",
    "{% for i in l[::-1] %}{{ i }}{% endfor %}",
    "{% for i in l | reverse %}{{ i }}{{ loop.length }}{% endfor %}",
    "{% for i in 1, 2, 3 %}{{ i }}{% endfor %}",
    "{% for i in l %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in l %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% else %}else{% endfor %}",
    "{% for i in l %}{% break %}{% else %}else{% endfor %}",
    "{% for i in l %}{% continue %}{% else %}else{% endfor %}",
    "{% for i in l %}{% for j in l %}{% break %}{% endfor %}{{ i }}{% endfor %}",
    "{% break %}",
    "{% if true %}{% continue %}{% endif %}",
    "{% for i in l %}{% macro f() %}{% break %}{% endmacro %}{% endfor %}",
    "{% for i in l %}{% set x = i %}{% endfor %}{{ x }}",
    "{% set x = 0 %}{% for i in l %}{% set x = x + i %}{{ x }},{% endfor %}{{ x }}",
    "{% set x = 0 %}{% for i in l %}{{ x }}{% set x = i %}{{ x }};{% endfor %}",
    "{% for i in l %}{{ i }}{% endfor %}{{ i }}",
    "{% for n in l %}{{ n }}{% endfor %}{{ n }}",
    "{{ loop is defined }}{% for i in l %}{% endfor %}{{ loop is defined }}",
    "{% for loop in l %}{{ loop }}{% endfor %}",
    "{% for i in l recursive %}{{ i }}{% endfor %}",
    "{% for x in t recursive %}{{ x.n }}{{ loop.depth }}{% if x.c %}({{ loop(x.c) }}){% endif %}"
    "{% endfor %}",
    "{% for i in l %}{{ loop(l) }}{% endfor %}",
    "{% for i in l %}{{ loop | length }}{% endfor %}",
    "{% for true in l %}{% endfor %}",
    "{% for i l %}{% endfor %}",
    "{% for d.x in l %}{% endfor %}",
    "{% for m in m %}{{ m.role }}{% endfor %}",
    "{% for k, v in m[0].items() %}{{ k }}:{{ v }}{% if not loop.last %}, {% endif %}{% endfor %}",
    # set
    "{% set a = 1 %}{{ a }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set a, b = 1 %}",
    "{% set (a, b) = [1, 2] %}{{ a }}{{ b }}",
    "{% set a = 1, %}{{ a }}",
    "{% set a %}x{{ n }}y{% endset %}{{ a }}{{ a | length }}",
    "{% set a | upper %}x{% endset %}{{ a }}",
    "{% set a | upper | replace('X', 'z') %}x{% endset %}{{ a }}",
    "{% set a %}{% set b = 1 %}{{ b }}{% endset %}{{ a }}{{ b }}",
    "{% set ns = namespace(x=0) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace() %}{% set ns.y = 1 %}{{ ns.y }}{{ ns.z }}",
    "{% set ns = namespace() %}{% set ns.a, b = 1, 2 %}{{ ns.a }}{{ b }}",
    "{% set ns = namespace() %}{% set ns._a = 1 %}",
    "{% set ns = namespace() %}{% set ns.a %}block{% endset %}{{ ns.a }}",
    "{% set d.x = 1 %}",
    "{% set d['x'] = 1 %}",
    "{% set missing.x = 1 %}",
    "{% set 1 = 2 %}",
    "{% set a.b.c = 2 %}",
    "{% set a = %}",
    "{% set none = 1 %}",
    "{% if true %}{% set a = 1 %}{% endif %}{{ a }}",
    "{% if false %}{% set a = 1 %}{% endif %}{{ a is defined }}",
    "{% if false %}{% set n = 1 %}{% endif %}{{ n }}",
    "{% if false %}{% set n = 1 %}{% else %}{{ n }}{% set n = 3 %}{% endif %}{{ n }}",
    "{% for i in l %}{{ n }}{% set n = i %}{% endfor %}{{ n }}",
    "{% for i in l %}{% if i == 1 %}{% set n = i %}{% endif %}{{ n }}{% endfor %}{{ n }}",
    "{% for i in l %}{% set n = i %}{% endfor %}{{ n }}",
    "{% set n = n + 1 %}{{ n }}",
    "{{ n }}{% set n = 1 %}{{ n }}",
    "{% macro f() %}{{ n }}{% endmacro %}{{ f() }}{% set n = 1 %}{{ f() }}",
    "{% macro f() %}{{ n }}{% endmacro %}{% for i in l %}{% set n = i %}{{ f() }}{% endfor %}",
    "{% for i in l %}{{ foo }}{% endfor %}{% set foo = 1 %}",
    "{% for i in l %}{{ n }}{% endfor %}{% set n = 1 %}",
    "{% for i in l %}{% if loop.first %}{% set q = 5 %}{% endif %}{{ q }}{% endfor %}",
    "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% set x = 1 %}{% for i in [1] %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}{% endfor %}{{ x }}",
    "{% set range = 5 %}{{ range }}",
    "{% set namespace = 5 %}{{ namespace }}",
    "{% set messages = m %}{{ messages | length }}",
    "{% set m = m[1:] %}{{ m | length }}",
    "{% set l = l + [4] %}{{ l }}",
    "{% set x = {'a': 1} %}{% set x = dict(x, b=2) %}{{ x }}",
    "{% set x = {'a': 1} %}{{ dict(x, **{'b': 2}) }}",
    "{% set g = (l | select) %}{{ g is defined }}{{ g | list }}",
    # macros
    "{% macro f(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ f(1, 3) }}{{ f(b=4, a=5) }}",
    "{% macro f(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ f(1, 2) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f() }}|",
    "{% macro f(a) %}{{ a is defined }}{% endmacro %}{{ f() }}",
    "{% macro f(a) %}{{ a.x }}{% endmacro %}{{ f() }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(b=2) }}",
    "{% macro f(a) %}{{ a }}{{ varargs }}{% endmacro %}{{ f(1, 2, 3) }}{{ f(1) }}",
    "{% macro f(a) %}{{ a }}{{ kwargs }}{% endmacro %}{{ f(1, b=2, c=3) }}{{ f(1) }}",
    "{% macro f() %}{{ varargs | length }}{{ kwargs.x }}{% endmacro %}{{ f(1, x=2) }}",
    "{% macro f() %}x{% endmacro %}{{ f() | upper }}{{ f() ~ 'y' }}{{ f() | length }}",
    "{% macro f(x) -%}\n  [{{ x }}]\n{%- endmacro %}{{ f(1) }}{{ f(2) }}",
    "{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{{ f(1) }}{% macro f(a) %}{{ a }}{% endmacro %}",
    "{% macro f() %}{% set x = 1 %}{{ x }}{% endmacro %}{{ f() }}{{ x }}",
    "{% set x = 1 %}{% macro f() %}{{ x }}{% set x = 2 %}{{ x }}{% endmacro %}{{ f() }}{{ x }}",
    "{% set x = 1 %}{% macro f() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ f() }}",
    "{% for i in l %}{% macro f() %}{{ i }}{% endmacro %}{{ f() }}{% endfor %}",
    "{% macro f(a, b=1, c) %}{% endmacro %}",
    "{% macro f(a, a) %}{% endmacro %}",
    "{% macro f(x) %}{{ caller() }}{{ x }}{% endmacro %}{% call f(1) %}body{{ n }}{% endcall %}",
    "{% macro f() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b) f() %}{{ a }}-{{ b }}{% endcall %}",
    "{% macro f() %}{{ caller() }}{% endmacro %}{{ f() }}",
    "{% macro f() %}{% if caller %}y{% else %}n{% endif %}{% endmacro %}{{ f() }}"
    "{% call f() %}{% endcall %}",
    "{% macro f() %}x{% endmacro %}{% call f() %}y{% endcall %}",
    "{% call 5 %}y{% endcall %}",
    "{% macro f(caller) %}{{ caller() }}{% endmacro %}{% call f() %}y{% endcall %}",
    "{% macro f(a=missing) %}{{ a is defined }}{% endmacro %}{{ f() }}",
    "{% macro f(a=[1, 2]) %}{{ a }}{% endmacro %}{{ f() }}{{ f.name }}{{ f.arguments }}",
    "{% macro f() %}{% endmacro %}{{ f is callable }}{{ f() == '' }}{{ f() is string }}",
    "{% macro f(m) %}{% for k, v in m.items() %}{% if v is mapping %}{{ k }}:{{ '{' }}{{ f(v) }}"
    "{{ '}' }}{% else %}{{ k }}={{ v }} {% endif %}{% endfor %}{% endmacro %}"
    "{{ f({'a': {'b': 1}, 'c': 2}) }}",
    "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}G{% endmacro %}{{ f() }}",
    "{% macro f(args) %}{{ args }}{% endmacro %}{{ f(*[1]) }}{{ f(**{'args': 2}) }}",
    "{% set ns = namespace(x=1) %}{% macro f() %}{% set ns.x = ns.x + 1 %}{% endmacro %}"
    "{{ f() }}{{ f() }}{{ ns.x }}",
    "{% macro f() %}",
    "{% macro 1() %}{% endmacro %}",
    # filter, with, block, generation, others
    "{% filter upper %}a{{ n }}b{% endfilter %}",
    "{% filter upper | replace('A', 'x') %}a b{% endfilter %}",
    "{% filter indent(2) %}a\nb{% endfilter %}",
    "{% filter nosuch %}a{% endfilter %}",
    "{% filter upper %}{% set q = 1 %}{% endfilter %}{{ q }}",
    "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    "{% with %}{% set a = 1 %}{{ a }}{% endwith %}{{ a }}",
    "{% with n = n + 1 %}{{ n }}{% endwith %}{{ n }}",
    "{% with a = 1, b = a %}{{ b }}{% endwith %}",
    "{% block x %}a{{ n }}{% endblock %}b",
    "{% block x %}a{% endblock x %}b",
    "{% block x-y %}a{% endblock %}b",
    "{% generation %}a{{ n }}{% endgeneration %}b",
    "{%- generation -%}\n a \n{%- endgeneration -%}\n b",
    "{% set x = 1 %}{% generation %}{{ x }}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
    "{% for i in l %}{% generation %}{{ i }}{{ loop.index }}{% endgeneration %}{% endfor %}",
    "{% generation %}",
    "{% print 1, 'a', n %}",
    "{% include 'x' %}",
    "{% import 'x' as y %}",
    "{% extends 'x' %}",
    "{% if false %}{% include 'x' %}{% endif %}ok",
    "{% do l.append(1) %}",
    # combinations that real templates use
    "{% if m[0].role == 'system' %}{% set sys = m[0].content %}{% set rest = m[1:] %}{% else %}"
    "{% set rest = m %}{% endif %}{{ sys | default('') }}|{{ rest | length }}",
    "{% for x in m %}{{- '<' + x['role'] + '>\n' + (x['content'] or '') | trim + '\n' -}}"
    "{%- endfor %}",
    "{% for x in m %}{% if (x.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception("
    "'Conversation roles must alternate') }}{% endif %}{% endfor %}",
    "{% set ns = namespace(found=false, last=-1) %}{% for x in m[::-1] %}{% set index = (m | length)"
    " - 1 - loop.index0 %}{% if not ns.found and x.role == 'user' %}{% set ns.found = true %}"
    "{% set ns.last = index %}{% endif %}{% endfor %}{{ ns.found }}{{ ns.last }}",
    "{% for x in m %}{% if x.content is string %}{{ x.content }}{% elif x.content is none %}-"
    "{% else %}?{% endif %}{% endfor %}",
    "{{ m | map(attribute='content') | select('string') | join('|') }}",
    "{% set content = 'a</think>b</think>c' %}{{ content.split('</think>')[-1].lstrip('\n') }}"
    "{{ content.split('</think>')[0].rstrip('\n').split('<think>')[-1] }}",
    "{{ (m | selectattr('role', 'equalto', 'user') | list)[-1].content }}",
    "{% for k in d | sort %}{{ k }}{% endfor %}",
    "{% for k, v in d | items | sort(attribute='0') %}{{ k }}{% endfor %}",
    "{{ '{' ~ '%s' % 'x' ~ '}' }}{{ '{{' }}",
    "{{ d | tojson | length }}{{ (d | tojson).startswith('{') }}",
    "{{- '\\n' }}|{{ \"\\n\" }}|{{ '\\\\n' }}",
    "{{ \"a\\tb\\u0041\\x42\\103\" }}",
    "{% set a = 'é\\é' %}{{ a }}",
    "{{ x }}{{ y }}",
    ("{{ x.y.z }}", {"x": {"y": {"z": 18446744073709551615}}}),
    ("{{ x | tojson }}", {"x": [18446744073709551615, -9223372036854775808, 1.0, -0.0]}),
    ("{{ x }} {{ x == 18446744073709551615.0 }}", {"x": 1.5}),
    ("{{ x is integer }}{{ x is number }}", {"x": 18446744073709551615}),
    ("{{ x }}", {"x": "\U0001f600 \x00 \x1b \ufffd"}),
    ("{{ x | upper }}{{ x | title }}{{ x | capitalize }}", {"x": "straße ǆ éÀ"}),
    ("{% for x in t recursive %}{{ x.n }}{{ loop.depth }}{% if x.c %}({{ loop(x.c) }}){% endif %}"
     "{% endfor %}", {"t": [{"n": 1, "c": [{"n": 2}, {"n": 3, "c": [{"n": 4}]}]}, {"n": 5}]}),
    ("{{ bos_token }}{{ a.b }}{{ a['b'] }}", {"bos_token": "<s>", "a": {"b": 1}}),
    ("{{ true }}{{ True }}{{ none }}{{ None }}{{ false }}", {"true": 5}),
    ("{{ item.keys() | list }}{{ item.values() | list }}", {"item": {"keys": 1, "x": 2}}),
    ("{{ item['keys'] }}{{ item.get('keys') }}", {"item": {"keys": 1, "x": 2}}),
    ("{% if tools %}t{% endif %}{% if tools is none %}n{% endif %}{{ tools is defined }}", {}),
    ("{% if tools is not none and tools | length > 0 %}t{% endif %}", {}),
    ("{{ documents is defined }}{{ add_generation_prompt }}", {}),
]

# Everything that str, list and dict may be asked for, on values that are awkward.
_METHOD_CASES = [
    f"{value}.{method}"
    for value in ("''", "'a b'", "'ÀÉ ß'", "'1²½'", "'_x9'", "' '", "'ǅx'", "'Hello World'")
    for method in (
        "upper()", "lower()", "title()", "capitalize()", "strip()",
        "split()", "rsplit()", "splitlines()", "isalpha()", "isalnum()", "isdigit()",
        "isspace()", "isupper()", "islower()",
        "find('b')", "count(' ')", "replace('', '.')", "startswith('')",
        "partition(' ')", "upper(1)",
    )
]
_FILTER_CASES = [
    f"{value} | {name}"
    for value in ("5", "2.5", "none", "true", "'aB c'", "[1, 'x']", "{'k': 1}", "missing", "()")
    for name in (
        "abs", "capitalize", "count", "default('D')", "dictsort", "e", "first", "float", "int",
        "items | list", "join('-')", "last", "length", "list", "lower", "max", "min",
        "reverse | list", "safe", "sort", "string", "sum", "title", "tojson", "trim",
        "unique | list", "upper", "map('string') | list", "select | list",
        "indent", "replace('a', 'b')",
    )
]
_TEST_CASES = [
    f"{value} is {name}"
    for value in ("5", "2.0", "none", "true", "'aB'", "[1]", "{'k': 1}", "missing", "()", "range")
    for name in (
        "boolean", "callable", "defined", "divisibleby 2", "even", "odd", "false", "true", "float",
        "integer", "number", "in [5, 'aB']", "iterable", "lower", "upper", "mapping", "none",
        "sequence", "string", "undefined", "eq 5", "gt 3", "sameas none",
    )
]

SNIPPETS = (
    ["{{ " + expression + " }}" for expression in _joined]
    + STATEMENTS
    + ["{{ " + expression + " }}" for expression in _METHOD_CASES + _FILTER_CASES + _TEST_CASES]
)
