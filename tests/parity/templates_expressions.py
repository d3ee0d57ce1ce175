"""Expressions of templates, one language feature each; for templates_snippets.py, whose CONTEXT they see."""

# Expressions, each printed as {{ ... }}.
_LINES = r"""
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
EXPRESSIONS = []
for _line in _LINES:
    if EXPRESSIONS and EXPRESSIONS[-1].endswith("\\"):
        EXPRESSIONS[-1] += "\n" + _line
    else:
        EXPRESSIONS.append(_line)
