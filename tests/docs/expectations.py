"""
docs/expectations*.md hold what bench/expect prints; its model against figures worked out by hand; its JSON; bad input.

    expectations.py SOURCE-FOLDER
"""
import json
import os
import subprocess
import sys
import tempfile

SOURCE = sys.argv[1]


def run(*flags):
    return subprocess.run([sys.executable, os.path.join(SOURCE, 'bench', 'expect'), *flags], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=60)


def printed(*flags):
    done = run(*flags)
    assert done.returncode == 0 and not done.stderr, done
    return done.stdout


def computed(*flags):
    machine, = json.loads(printed(*flags, '--json'))
    return machine['rows'][0]['algorithms']


def read(path):
    with open(path, encoding='utf-8') as file:
        return file.read()


def test_pages():
    for name in ('expectations.md', 'expectations.zh.md'):
        page = read(os.path.join(SOURCE, 'docs', name))
        between = page.split('<!-- bench/expect -->\n')[1].split('<!-- end -->')[0]
        assert between == printed(), f'docs/{name}: the tables are not what bench/expect prints'


def test_by_hand():
    """4 GPUs of 10 GB/s each way, 20 both: a million bytes are 100 us a way, and host memory does not count."""
    plain = ('--out', '10', '--in', '10', '--both', '20', '--memory', '1e6', '--start', '5', '--hop', '2', '--copy', '7')
    rows = computed(*plain, '--bytes', '1MB')
    want = {'one-shot': (300, 307), 'two-shot': (150, 159), 'copy engines': (150, 5 + 18 + 52.4288 + 150),
            'CPU reduction': (100, 5 + 18 + 52.4288 + 100), 'NCCL ring': (150, 6.8 + 6 * 6.7 + 150)}
    for name, (bound, time) in want.items():
        assert abs(rows[name]['bound_us'] - bound) < 1e-6 and abs(rows[name]['time_us'] - time) < 1e-6, (name, rows[name])
    rows = computed(*plain, '--bytes', '1kB')  # flags beside the data; LL
    assert abs(rows['one-shot']['time_us'] - (5 + 2 + 2 * 0.3)) < 1e-6, rows
    assert abs(rows['NCCL ring']['time_us'] - (5 + 6 * 2 + 2 * 0.15)) < 1e-6, rows
    rows = computed(*plain, '--memory', '10', '--bytes', '1MB')  # 16, 10, 10, 13 and 12 MB of host memory
    assert [round(row['bound_us']) for row in rows.values()] == [1600, 1000, 1000, 1300, 1200], rows
    rows = computed(*plain, '--both', '10', '--bytes', '1MB')  # half duplex: the sum of both ways counts
    assert [round(row['bound_us']) for row in rows.values()] == [400, 250, 250, 200, 300], rows


def test_record():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'a.json')
        record = {'bounds': {'link_to_host_gbs': 10, 'link_from_host_gbs': 20, 'link_both_gbs': 25, 'link_small_copy_us': 3},
                  'machine': {'gpus': ['a', 'b', 'c']}}

        def wrote(text):
            with open(path, 'w', encoding='utf-8') as file:
                file.write(text)
            return '--from', path

        machine, = json.loads(printed(*wrote(json.dumps(record)), '--json', '--hop', '9'))
        assert [machine[key] for key in ('gpus', 'out', 'into', 'both', 'copy', 'hop')] == [3, 10, 20, 25, 3, 9], machine
        refused('--from', *wrote('{')[1:])
        refused('--from', *wrote('[]')[1:])
        record['bounds']['link_to_host_gbs'] = None  # of host memory
        refused('has no links', *wrote(json.dumps(record)))
        refused('No such file', '--from', path + 'x')


def refused(words, *flags):
    if words == '--from':
        flags = ('--from', *flags)
    done = run(*flags)
    assert done.returncode == 2 and not done.stdout and len(done.stderr.splitlines()) == 1 and words in done.stderr, done


def test_bad_input():
    refused('no such flag', '--sizes')
    refused('needs a value', '--gpus')
    for gpus in ('1', '65', '-4', 'x', '2.5', ''):
        refused('from 2 to 64', '--gpus', gpus)
    for rate in ('0', '-1', 'nan', 'inf', 'fast', ''):
        refused('above 0', '--memory', rate)
    for sizes in ('', '0', '1,', '1X', '-1', '1e3'):
        refused('--bytes', '--bytes', sizes)
    refused('l20x4, rtx5090x8 or all', '--machine', 'h100')
    refused('name one machine', '--machine', 'all', '--hop', '1')
    assert 'usage' in printed('--help')


for name, test in sorted(globals().items()):
    if name.startswith('test_'):
        test()
        print(f'ok {name}')
