"""
bench/regress: what it calls slower, faster and noise, with a benchmark whose times are prescribed; bad input; and once
with the real benchmark, whose verdict is left open.
"""
import json
import os

from support import LIBRARY, PERF, TOP, check, expect_refusal, main, run

REGRESS = os.path.join(TOP, 'bench', 'regress')

# Stands in for shmccl-perf: each call takes the next ratio B/A of its script, whichever of them is first.
FAKE = '''#!/usr/bin/env python3
import json, os, sys
folder = os.path.dirname(os.path.abspath(__file__))
at = lambda flag: sys.argv[sys.argv.index(flag) + 1]
calls = os.path.join(folder, 'calls')
number = os.path.getsize(calls) if os.path.exists(calls) else 0
open(calls, 'a').write('.')
ratio = json.load(open(os.path.join(folder, 'ratios')))[number]
times = {'a.so': 10.0, 'b.so': 10.0 * ratio}
noise = [1, 3, 1.5, 1, 2]  # meets both sides alike: they are measured in turns
of = lambda flag: {'time_us': times[os.path.basename(at(flag))],
                   'rounds_us': [times[os.path.basename(at(flag))] * x for x in noise]}
rows = [{'collective': 'all_reduce', 'bytes': 64, 'type': 'float', 'op': 'sum', 'root': None,
         'out_of_place': of('--library'), 'peers': {'against': of('--against')}}]
json.dump({'rows': rows}, open(at('--json'), 'w'))
'''


def judge(folder, ratios, *flags):
    for name in ('a.so', 'b.so'):
        open(os.path.join(folder, name), 'w', encoding='utf-8').close()
    with open(os.path.join(folder, 'fake'), 'w', encoding='utf-8') as file:
        file.write(FAKE)
    os.chmod(file.name, 0o755)
    with open(os.path.join(folder, 'ratios'), 'w', encoding='utf-8') as file:
        json.dump(ratios, file)
    calls = os.path.join(folder, 'calls')
    if os.path.exists(calls):
        os.unlink(calls)
    return run(REGRESS, f'{folder}/a.so', f'{folder}/b.so', '--perf', f'{folder}/fake', '--launches', len(ratios), *flags)


def expect_verdict(done, code, words):
    row = [line for line in done.stdout.splitlines() if not line.startswith('#')]
    check(done.returncode == code and len(row) == 1 and row[0].endswith(words), f'must be {words}', done)


def test_verdicts(folder):
    expect_verdict(judge(folder, [1.1, 1.2, 1.08, 1.3, 1.06, 1.1, 1.5]), 1, 'SLOWER')
    expect_verdict(judge(folder, [1.1, 1.2, 1.08, 1.3, 1.04, 1.1, 1.5]), 0, 'within threshold')
    expect_verdict(judge(folder, [1.1, 1.2, 1.08, 1.3, 0.99, 1.1, 1.5]), 0, 'noise')
    expect_verdict(judge(folder, [0.9, 0.8, 0.7, 0.9, 0.94]), 0, 'faster')
    expect_verdict(judge(folder, [1.1, 1.2, 1.08, 1.3, 1.06], '--threshold', '10'), 0, 'within threshold')
    expect_verdict(judge(folder, [1.0] * 5, '--threshold', '0'), 0, 'noise')
    done = judge(folder, [1.25] * 6)
    check(' 1.250    1.250 to 1.250 ' in done.stdout, 'sides must not be mixed up when they change places', done)


def test_bad_input(folder):
    expect_refusal(run(REGRESS, folder, LIBRARY), folder, 'no libshmccl.so')
    expect_refusal(run(REGRESS, LIBRARY, '/nonexistent'), '/nonexistent')
    for flags in (['--threshold', '-1'], ['--launches', '4'], ['--rounds', '0'], ['--perf', '/nonexistent']):
        expect_refusal(run(REGRESS, LIBRARY, LIBRARY, *flags), flags[0] if flags[0] != '--perf' else flags[1])
    done = run(REGRESS, LIBRARY, LIBRARY, '--perf', PERF, '--launches', '5', '--', '--ranks', '0')
    check(done.returncode == 2 and '--ranks 0' in done.stderr, 'what the benchmark refuses is refused', done)


def test_really(_):
    done = run(REGRESS, LIBRARY, LIBRARY, '--perf', PERF, '--launches', '5', '--rounds', '1', '--', '--ranks', '2', '-b', '64',
               '-e', '64', '-n', '20', 'all_reduce')
    check(done.returncode in (0, 1) and not done.stderr, 'must come to a verdict', done)
    check(len([line for line in done.stdout.splitlines() if not line.startswith('#')]) == 1, 'one row', done)


main()
