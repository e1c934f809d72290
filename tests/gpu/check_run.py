"""
tests/gpu/run on the stand-in: check_run.py FOLDER. All phases once; then with programs in FOLDER's place that fail, hang with
a child, or are interrupted, and where there is no GPU.
"""
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

FOLDER = sys.argv[1]
RUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'run')


def start(build, out, *flags, devices='1'):
    environment = {**os.environ, 'STANDIN_DEVICES': devices}
    return subprocess.Popen([sys.executable, '-B', RUN, '--build', build, '--out', out, *flags], env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def reports(out, text):
    names = sorted(os.listdir(out))
    assert len(names) == 2 and names[0].endswith('.json') and names[1].endswith('.txt'), (names, text)
    with open(glob.glob(out + '/*.json')[0], encoding='utf-8') as file:
        report = json.load(file)
    assert report['format'] == 'shmccl-gpu-run' and report['machine']['cores'] and report['stand_in'], report
    return report, {p['name']: p for p in report['phases']}


def whole(out):
    process = start(FOLDER, out, '--quick', '--minutes', '4')
    text = process.communicate()[0]
    assert process.returncode == 0, text
    report, phases = reports(out, text)
    assert report['end'] == 'complete' and report['facts']['litmus'] and report['facts']['sweep'], report['facts']
    assert all(f['as_it_must'] for f in report['facts']['litmus'])
    assert all(p['state'] in ('right', 'skipped') for p in report['phases'])
    assert 'GPU' in phases['compute-sanitizer']['reason'] and 'two GPUs' in phases['NCCL SHM stock, 2 ranks']['reason']
    assert phases['benchmark -t 2']['benchmark']['rows'] and any('empty kernel' in g['what'] for g in report['goals'])


def folder_with(work, scripts):
    """The real probe, and these in place of the others."""
    build = os.path.join(work, 'build')
    os.makedirs(build)
    shutil.copy(os.path.join(FOLDER, 'probe'), build)
    for name, script in scripts.items():
        path = os.path.join(build, name)
        with open(path, 'w', encoding='utf-8') as file:
            file.write('#!/bin/sh\n' + script)
        os.chmod(path, 0o755)
    return build


def alive(mark):
    with open(mark, encoding='utf-8') as file:
        pid = file.read().strip()
    time.sleep(0.3)
    return os.path.exists(f'/proc/{pid}') and 'Z' not in open(f'/proc/{pid}/stat', encoding='utf-8').read().split()[2]


def trouble(work, out):
    mark = os.path.join(work, 'child')
    build = folder_with(work, {'litmus': 'echo wrong; exit 3\n', 'wrap': 'exit 0\n', 'overhead': 'exit 0\n',
                               'trouble': f'sleep 500 & echo $! > {mark}; wait\n'})
    process = start(build, out, '--minutes', '0.1')
    text = process.communicate(timeout=60)[0]
    phases = reports(out, text)[1]
    assert process.returncode == 1, text
    assert phases['litmus']['state'] == 'failed' and phases['litmus']['reason'] == 'exit code 3', phases
    assert 'did not end in' in phases['trouble: death, absence, misuse']['reason'], phases
    assert phases['wrap' if 'wrap' in phases else 'step numbers wrap']['state'] == 'right'
    assert phases['overhead']['state'] == 'right', 'the benchmark had no time'
    assert 'there is no' in phases['send and recv']['reason'] and not alive(mark)


def interrupted(work, out):
    mark = os.path.join(work, 'child')
    build = folder_with(work, {'litmus': f'sleep 500 & echo $! > {mark}; wait\n'})
    process = start(build, out)
    for _ in range(300):
        if os.path.exists(mark) and os.path.getsize(mark):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    text = process.communicate(timeout=60)[0]
    report = reports(out, text)[0]
    assert process.returncode == 130 and report['end'] == 'interrupted' and not alive(mark), text
    assert report['phases'][-1]['state'] == 'interrupted', report['phases']


def without_gpu(out):
    process = start(FOLDER, out, devices='0')
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 77 and 'no GPU can be used' in text, text
    process = start('/nowhere', out)
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 77 and 'skipped' in text, text


def main():
    with tempfile.TemporaryDirectory(prefix='shmccl-run-') as top:
        for i, check in enumerate((whole, trouble, interrupted, without_gpu)):
            work, out = os.path.join(top, str(i)), os.path.join(top, f'out{i}')
            os.makedirs(work)
            check(*([work] if check in (trouble, interrupted) else []), out)
            print(f'{check.__name__}: right')


main()
