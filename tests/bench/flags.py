"""
Every flag with nonsense, and flags that do not go together: one clear line, exit code 2, nothing started.
"""
import os
import re

from support import PERF, environment, expect_refusal, expect_success, check, main, perf

NONSENSE = ['', '-1', 'x', '1x', ' 1', '0x10', '1e3', '99999999999999999999', '1,', '\xff']
FILES = {'json', 'output_file', 'tune', 'library', 'against'}  # any text is a path: below


def known_flags():
    """(name, letter, whether it takes a value) from --help, so that no flag is forgotten."""
    flags = []
    for line in expect_success(perf('--help')).stdout.splitlines():
        match = re.match(r'  (?:-(\w), |    )--([\w-]+)( [A-Z0-9]\S*)? ', line)
        if match:
            flags.append((match[2], match[1], bool(match[3])))
    return flags


def test_help_lists_the_flags(_):
    flags = known_flags()
    names = {name for name, _, _ in flags}
    check(len(flags) >= 30 and {'agg_iters', 'average', 'per_iter_timing', 'tune', 'json', 'help'} <= names,
          f'--help lists {sorted(names)}')
    for name, letter, _ in flags:
        check(name in FILES or letter or name in {'ranks', 'no-pin', 'rounds', 'peer', 'memory', 'version'}, f'--{name} has no letter')


def test_every_flag_refuses_nonsense(_):
    for name, letter, takes_value in known_flags():
        if not takes_value:
            expect_refusal(perf(f'--{name}=1'), f'--{name} takes no value')
            continue
        expect_refusal(perf(f'--{name}'), f'--{name}', 'needs a value')
        for text in [] if name in FILES else NONSENSE:
            expect_refusal(perf(f'--{name}', text), f'--{name}')
            if letter:
                expect_refusal(perf(f'-{letter}', text), f'-{letter}')


def test_bounds(_):
    for flags in (('--ranks', '0'), ('--ranks', '65'), ('-t', '65'), ('-a', '4'), ('-I', '2'), ('-S', '2'), ('-m', '0'),
                  ('-m', '1025'), ('-u', '65'), ('-N', '1000000001'), ('-T', '0'), ('-K', '20000'), ('--rounds', '0'),
                  ('--rounds', '1002'), ('-f', '1'), ('-b', '0'), ('-e', '128T')):
        expect_refusal(perf(*flags), flags[0], flags[1])


def test_unknown_words(_):
    expect_refusal(perf('--nonsense'), '--nonsense', '--help')
    expect_refusal(perf('-q'), '-q', '--help')
    expect_refusal(perf('all_shuffle'), 'all_shuffle', 'all_reduce')
    expect_refusal(perf('--peer', 'ucx'), 'nccl', 'gloo')
    expect_refusal(perf('-d', 'float128'), 'float128', 'bfloat16')


def test_flags_that_exclude_each_other(folder):
    for words, flags in (
            ('--ranks -t', ['--ranks', '2', '-t', '2']),
            ('-f -i', ['-f', '2', '-i', '8']),
            ('-b -e', ['-b', '2K', '-e', '1K']),
            ('-r', ['--ranks', '2', '-r', '2', 'broadcast']),
            ('-m sendrecv all_reduce', ['-m', '2', 'all_reduce']),
            ('-m sendrecv', ['-m', '2', 'sendrecv', 'all_gather']),
            ('-K -I', ['-K', '1']),
            ('-n -I', ['-I', '1', '-n', '20001']),
            ('-K -n', ['-I', '1', '-K', '5', '-n', '5']),
            ('--ranks --tune', ['--ranks', '2,4']),
            ('--tune --agg_iters', ['--tune', f'{folder}/t', '-m', '2']),
            ('--tune --json', ['--tune', f'{folder}/t', '--json', f'{folder}/j']),
            ('--tune all_gather', ['--tune', f'{folder}/t', 'all_gather']),
            ('--tune -e', ['--tune', f'{folder}/t', '-e', '1K']),
            ('--ranks --tune', ['--tune', f'{folder}/t', '--ranks', '2,1']),
            ('-e memory', ['--ranks', '64', '-e', '1T'])):
        expect_refusal(perf(*flags), *words.split())
    check(not os.listdir(folder), 'what is refused left a file')


def test_libraries(folder):
    text = os.path.join(folder, 'text')
    with open(text, 'w', encoding='utf-8') as file:
        file.write('no library')
    for flag in ('--library', '--against'):
        expect_refusal(perf(flag, '/nonexistent.so'), flag, '/nonexistent.so: No such file')
        expect_refusal(perf(flag, text), flag, 'is no shared library')
        expect_refusal(perf(flag, folder), flag)
        expect_refusal(perf('-t', '2', flag, PERF), '--ranks instead of -t')
    done = perf('--ranks', '2', '-e', '8', '--against', PERF)  # a program, but not the library
    check(done.returncode == 1 and 'is it a libshmccl.so?' in done.stderr, 'another library must not be measured', done)


def test_a_job_has_no_peers(_):
    job = environment(RANK='0', WORLD_SIZE='1')
    expect_refusal(perf('--peer', 'mpi', env=job), '--peer', '--ranks')
    expect_refusal(perf('--against', PERF, env=job), '--against', '--ranks')


main()
