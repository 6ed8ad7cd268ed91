"""An endurance run: everything comes, goes and fails for as long as is asked (`make endurance`).

`churn` are the things that change beside the load. Its tables and rules check who receives what;
its clients only come and go.
`measures` look at the processes and servers, `curves` keep what they see and draw it.
"""
